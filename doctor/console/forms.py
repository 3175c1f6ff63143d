"""What a person has typed: read with limits, kept as it was typed, and shown again beside what is wrong with it."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from litestar import Request
from litestar.exceptions import ClientException, PermissionDeniedException

CSRF_FIELD = "csrf"
FIELDS = 200


@dataclass(slots=True)
class Form:
    """A form's fields, and what is wrong with them: `errors` by field; "" for what is of no one field."""

    values: dict[str, list[str]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """A field's text without blanks around it; empty where it is missing."""
        return self.raw(name).strip()

    def raw(self, name: str) -> str:
        """A field's text as it was typed, with line breaks of one kind."""
        return self.values.get(name, [""])[0].replace("\r\n", "\n").replace("\r", "\n")

    def all(self, name: str) -> list[str]:
        """Every value of a field that may be chosen several times."""
        return self.values.get(name, [])

    def has(self, name: str, value: str) -> bool:
        """Whether this value was chosen."""
        return value in self.all(name)

    def wrong(self, name: str, text: str) -> None:
        """Say what is wrong with a field; the first thing counts."""
        self.errors.setdefault(name, text)

    @property
    def valid(self) -> bool:
        """Whether nothing is wrong."""
        return not self.errors

    def number(self, name: str, low: float, high: float, what: str) -> float | None:
        """A number that may be left out; None where it is, or is wrong, which is said. `what`: for example "hours"."""
        text = self.text(name).replace(",", ".")
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low < value <= high:
            self.wrong(name, f"Enter a number of {what} above {low:g}, at most {high:g}, or leave it empty.")
            return None
        return value

    def require_token(self, expected: str) -> None:
        """Raises PermissionDeniedException unless the form bears this token."""
        if not hmac.compare_digest(self.text(CSRF_FIELD).encode(), expected.encode()):
            raise PermissionDeniedException(
                "This form is not from your present login, so nothing was done. Go back, reload the page and try again."
            )


async def read(request: Request[Any, Any, Any]) -> Form:
    """The form of a request, whoever sent it.

    Raises:
        ClientException: it is none.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise ClientException("The form cannot be read: it has to be URL-encoded.", status_code=415)
    return parse(await request.body())


def parse(body: bytes) -> Form:
    """Read a URL-encoded body.

    Raises:
        ClientException: it is none.
    """
    try:
        text = body.decode("ascii")
        return Form(
            parse_qs(text, keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=FIELDS)
        )
    except ValueError as error:
        raise ClientException(
            "The form cannot be read: it is not UTF-8 text, or has too many fields."
        ) from error
