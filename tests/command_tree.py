"""The commands of a program, as its own parser knows them."""

from __future__ import annotations

from collections.abc import Iterator

import typer
from typer._click.core import Command  # Typer brings its own copy of click


def commands(app: typer.Typer) -> dict[str, Command]:
    """Each command under what is typed after the program's name, such as `groups add`."""
    return dict(_below(typer.main.get_command(app), ()))


def _below(command: Command, path: tuple[str, ...]) -> Iterator[tuple[str, Command]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield " ".join(path), command
        return
    for name, child in children.items():
        yield from _below(child, (*path, name))


def options(command: Command) -> set[str]:
    """All options that it takes."""
    return {name for parameter in command.params for name in parameter.opts}
