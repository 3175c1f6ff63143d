"""YAML and environment become frozen, typed settings, or one line that says which key is wrong and where.

Law: the only reader of configuration. What a setting may be is declared once, as the fields of a msgspec
struct; this module finds the place of an error and words it. The environment wins over the file, the file
over the defaults. Settings hold no secrets, so that a refused value may be shown.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, cast

import msgspec
import yaml
from msgspec import inspect

from shared.errors import ConfigError

# The kinds of values that both programs have.
Address: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^\s:\[\],]+):[0-9]{1,5}$",
        description='"host:port", such as "10.0.0.5:7700"',
    ),
]
LogFormat: TypeAlias = Literal["console", "json"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
Seconds: TypeAlias = Annotated[
    float, msgspec.Meta(gt=0, le=31_536_000, description="a number of seconds above 0, at most 31536000")
]
SuiteName: TypeAlias = Literal["elgamal-p256-mlkem768", "elgamal-p256", "elgamal-ffdhe3072"]
Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, description="a text that is not empty")]

T = TypeVar("T", bound=msgspec.Struct)
KeyPath: TypeAlias = tuple[str | int, ...]

_FILE_VARIABLE = "CONFIG"
"""`<prefix>_CONFIG` names the file; the program reads it, it is no setting."""

_LONGEST_SHOWN = 60


def load(settings_type: type[T], path: Path | None, environ: Mapping[str, str], prefix: str) -> T:
    """Read the settings of a program.

    Args:
        settings_type: a struct (frozen, forbid_unknown_fields, kw_only). A field's `Meta(description=...)` is
            what an error message says was expected; without it, msgspec's wording.
        path: the YAML file, or None for none.
        environ: `os.environ`, or a part of it. The key `a` of the struct in key `b` is `<prefix>_B__A`. A
            text is taken as it stands; a list is comma-separated or YAML `[a, b]`; anything else is read as
            YAML. For a key that may be empty, the empty text and `null` mean none.
        prefix: such as TELEMED_DOCTOR.

    Raises:
        ConfigError: the file is missing or is not YAML, a key is unknown or doubled, or a value is not what
            the key takes; the message is one line with file and line, or the variable's name.
    """
    source = _Source("settings") if path is None else _read(path)
    schema = cast(inspect.StructType, inspect.type_info(settings_type))
    _refuse_unknown(source, schema, source.data, ())
    _overlay(source, schema, environ, prefix)
    try:
        return msgspec.convert(source.data, settings_type)
    except msgspec.ValidationError as error:
        raise _explained(source, schema, str(error)) from error


@dataclass(slots=True)
class _Source:
    """What was read, and where each key of it stands."""

    name: str
    data: dict[str | int, Any] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    variables: dict[KeyPath, str] = field(default_factory=dict)

    def error(self, key: KeyPath, problem: str) -> ConfigError:
        """The problem with its place in front: that of the key, or of what encloses it."""
        for end in range(len(key), 0, -1):
            if key[:end] in self.variables:
                return ConfigError(f"environment {self.variables[key[:end]]}: {problem}")
            if key[:end] in self.lines:
                return ConfigError(f"{self.name}:{self.lines[key[:end]]}: {problem}")
        return ConfigError(f"{self.name}: {problem}")


# --- the file
# ---------------------------------------------------------------------------------------------------------


def _read(path: Path) -> _Source:
    source = _Source(str(path))
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is not None and node.tag != "tag:yaml.org,2002:null":  # a file of comments is empty
            _mark(source, node, (), ())
            source.data = loader.construct_document(node)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name an existing file or none") from error
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:  # bytes that are no text, a date such as 2026-13-01
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    return source


def _mark(source: _Source, node: yaml.Node, key: KeyPath, parents: tuple[yaml.Node, ...]) -> None:
    """Note the line of every key below `node`; refuse what YAML allows and nobody means."""
    line = node.start_mark.line + 1
    if not key and not isinstance(node, yaml.MappingNode):
        raise ConfigError(
            f"{source.name}:{line}: expected keys with values (key: value), found something else"
        )
    if any(node is parent for parent in parents):
        raise ConfigError(f"{source.name}:{line}: an alias refers to what contains it")
    below = (*parents, node)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            source.lines[(*key, index)] = item.start_mark.line + 1
            _mark(source, item, (*key, index), below)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for name, value in node.value:
            text, line = str(name.value), name.start_mark.line + 1
            if text in seen:
                raise ConfigError(f'{source.name}:{line}: key "{text}" stands here a second time; keep one')
            seen.add(text)
            source.lines[(*key, text)] = line
            _mark(source, value, (*key, text), below)


def _refuse_unknown(
    source: _Source, schema: inspect.StructType, data: Mapping[Any, Any], key: KeyPath
) -> None:
    known = {found.encode_name: found for found in schema.fields}
    for name, value in data.items():
        if name not in known:
            raise source.error((*key, str(name)), _unknown("key", str(name), list(known)))
        nested = _plain(known[name].type)
        if isinstance(nested, inspect.StructType) and isinstance(value, dict):
            _refuse_unknown(source, nested, value, (*key, name))


def _unknown(kind: str, name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1) or [
        each
        for each in known
        if difflib.get_close_matches(name, each.split("_"))  # "prot" for listen_port
    ]
    hint = f'; did you mean "{close[0]}"?' if close else "."
    return f'unknown {kind} "{name}"{hint} Known {kind}s: {", ".join(known)}'


# --- the environment
# --------------------------------------------------------------------------------------------------


def _overlay(source: _Source, schema: inspect.StructType, environ: Mapping[str, str], prefix: str) -> None:
    known = {f"{prefix}_{'__'.join(key).upper()}": (key, kind) for key, kind in _leaves(schema)}
    for variable in sorted(environ):
        if not variable.startswith(f"{prefix}_") or variable == f"{prefix}_{_FILE_VARIABLE}":
            continue
        if variable not in known:
            raise ConfigError(f"environment: {_unknown('variable', variable, list(known))}")
        key, kind = known[variable]
        place = source.data
        for depth, part in enumerate(key[:-1], start=1):
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise source.error(key[:depth], f"{part}: expected keys with values, got {_shown(place)}")
        source.variables[key] = variable
        try:
            place[key[-1]] = _value_of(environ[variable], kind)
        except (yaml.YAMLError, ValueError) as error:
            raise source.error(key, f"not valid YAML: {_shown(environ[variable])}") from error


def _leaves(schema: inspect.StructType) -> list[tuple[tuple[str, ...], inspect.Type]]:
    found: list[tuple[tuple[str, ...], inspect.Type]] = []
    for each in schema.fields:
        kind = _plain(each.type)
        if isinstance(kind, inspect.StructType):
            found += [((each.encode_name, *key), leaf) for key, leaf in _leaves(kind)]
        else:
            found.append(((each.encode_name,), kind))
    return found


def _value_of(text: str, kind: inspect.Type) -> Any:
    choices = [_plain(each) for each in kind.types] if isinstance(kind, inspect.UnionType) else [kind]
    if any(isinstance(each, inspect.NoneType) for each in choices) and text in ("", "null"):
        return None
    if any(isinstance(each, inspect.StrType | inspect.LiteralType | inspect.EnumType) for each in choices):
        return text
    if isinstance(kind, inspect.VarTupleType | inspect.ListType) and not text.lstrip().startswith("["):
        return [_value_of(item.strip(), _plain(kind.item_type)) for item in text.split(",") if item.strip()]
    return yaml.safe_load(text)


# --- the message
# ------------------------------------------------------------------------------------------------------


def _explained(source: _Source, schema: inspect.StructType, message: str) -> ConfigError:
    """msgspec's message, such as "Expected `int`, got `str` - at `$.a[0]`", in our words and with the place."""
    problem, _, place = message.partition(" - at `$")
    key: KeyPath = tuple(
        int(index) if index else name
        for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", place.removesuffix("`"))
    )
    kind: inspect.Type = schema
    value: Any = source.data
    for part in key:
        value = value[part]
        kind = _below(kind, part)
    if not problem.startswith(("Expected", "Invalid enum")):  # a missing key, or a rule about several at once
        return source.error(key, problem.replace("`", '"'))
    expected = _described(kind) or problem.partition(", got ")[0].replace("`", "")
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).removeprefix(".")
    return source.error(key, f"{where}: {expected[0].lower()}{expected[1:]}, got {_shown(value)}")


def _below(kind: inspect.Type, part: str | int) -> inspect.Type:
    kind = _plain(kind)
    if isinstance(kind, inspect.StructType):
        return next(each.type for each in kind.fields if each.encode_name == part)
    return kind.item_type if isinstance(kind, inspect.VarTupleType | inspect.ListType) else kind


def _described(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.Metadata) and kind.extra_json_schema:
        return f"expected {kind.extra_json_schema.get('description')}"
    plain = _plain(kind)
    if isinstance(plain, inspect.LiteralType):
        return f"expected one of {', '.join(str(value) for value in plain.values)}"
    return ""


def _plain(kind: inspect.Type) -> inspect.Type:
    return _plain(kind.type) if isinstance(kind, inspect.Metadata) else kind


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
