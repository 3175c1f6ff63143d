"""What the handlers of the API have in common: how a route is declared, and what it is given."""

from __future__ import annotations

from functools import partial
from typing import Annotated, TypeAlias

import litestar
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, PathParameter, QueryParameter

from doctor import refusals
from doctor.commands import Commands
from doctor.gateway import Gateway
from doctor.idempotency import Origin

delete = partial(refusals.describing, litestar.delete)
get = partial(refusals.describing, litestar.get)
post = partial(refusals.describing, litestar.post)


async def origin(
    idempotency_key: Annotated[str | None, HeaderParameter(name="Idempotency-Key", max_length=128)] = None,
) -> Origin:
    """Who orders, and under which key. Whoever has the token is the operator."""
    return Origin("operator", idempotency_key)


Orders: TypeAlias = NamedDependency[Commands]
Doctor: TypeAlias = NamedDependency[Gateway]
From: TypeAlias = NamedDependency[Origin]
# Up to here every reader of JSON knows whole numbers apart, of the description too; SQLite takes more.
WHOLE = 2**53 - 1
Moment: TypeAlias = Annotated[int, QueryParameter(ge=-WHOLE, le=WHOLE)]
AlertNumber: TypeAlias = Annotated[int, PathParameter(ge=1, le=WHOLE)]
