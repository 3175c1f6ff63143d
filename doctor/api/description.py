"""The description of the HTTP API: Litestar's, with the bodies of orders as msgspec reads them, and the token that everything takes.

Law: it describes and decides nothing. Litestar knows less of a body than msgspec does: not that no other field is taken, nor what a
number must be above, nor what holds inside a list.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from doctor.orders import (
    AcknowledgeOrder,
    BroadcastOrder,
    GroupOrder,
    InviteOrder,
    MemberOrder,
    MessageOrder,
    OperatorOrder,
)
from doctor.thresholds import ThresholdsOrder

ORDERS = (
    AcknowledgeOrder,
    BroadcastOrder,
    GroupOrder,
    InviteOrder,
    MemberOrder,
    MessageOrder,
    OperatorOrder,
    ThresholdsOrder,
)
OPEN: list[dict[str, list[str]]] = [{}]
"""For what is answered without a token."""

_TOKEN = SecurityScheme(
    type="http", scheme="bearer", description="The API's token; it stands in a file beside the socket."
)


class _Document(JsonRenderPlugin):
    """The document as JSON. The interactive pages are not served: they load scripts from elsewhere."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """With the bodies of orders as they are read."""
        _, bodies = msgspec.json.schema_components(ORDERS, ref_template="#/components/schemas/{name}")
        parts = openapi_schema["components"]
        whole = {**openapi_schema, "components": {**parts, "schemas": {**parts["schemas"], **bodies}}}
        return super().render(request, whole)


CONFIG = OpenAPIConfig(
    title="Doctor gateway",
    version="1",
    security=[{"token": []}],
    components=Components(security_schemes={"token": _TOKEN}),
    render_plugins=[_Document(path="/openapi.json")],
)
