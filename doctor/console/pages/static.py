"""What pages are made of beside their text: one stylesheet, two scripts, an icon."""

from __future__ import annotations

from litestar import get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.response import Response

from doctor.console.rendering import static_files


@get("/static/{name:str}", opt={"open": True, "quiet": True})
async def static_file(name: FromPath[str]) -> Response[bytes]:
    """One of them; its address changes with its content."""
    if name not in static_files():
        raise NotFoundException
    content, kind = static_files()[name]
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(content, media_type=kind, headers=headers)


HANDLERS = [static_file]
