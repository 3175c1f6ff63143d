"""Messages: what was sent, a new one with a look at who will be able to read it, and its receipts as they come in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from litestar import get, post
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.response import Response

from doctor import groups, streams
from doctor.answers import ReceiptAnswer
from doctor.console.desk import Filled, HtmlRequest, NavEntry, View, Viewed, see
from doctor.console.forms import Form
from doctor.console.states import DELIVERY_STATES
from doctor.orders import BroadcastOrder, MessageOrder
from doctor.overview import MessageRow, Readers
from shared.errors import UserError
from shared.wire.messages import BODY_LIMIT, Stream

NAV = (NavEntry("/messages", "Messages"),)
ROWS = 200  # recipients that are shown by name; those that wait come first
PATIENT, GROUP = "patient:", "group:"


@dataclass(frozen=True, slots=True)
class Receipts:
    """What became of a message: how many in each state, and the first so many by name."""

    counts: Counter[str]
    rows: list[ReceiptAnswer]

    @property
    def all(self) -> int:
        """For how many it was meant."""
        return self.counts.total()


def receipts_of(view: View, message: MessageRow) -> Receipts:
    """The receipts of a message, those first that have something to say."""
    found = view.commands.receipts(message.message_id)
    order = {
        name: place
        for place, name in enumerate(("sent", "queued", "expired", "revoked", "retired", "delivered"))
    }
    rows = sorted(found, key=lambda row: (order[row.state], row.patient)) if len(found) > ROWS else found
    return Receipts(Counter(row.state for row in found), rows[:ROWS])


@get("/messages")
async def show_messages(view: Viewed) -> Response[str]:
    """The newest ones."""
    return view.page("messages.html", messages=view.commands.messages())


@get("/messages/list", opt={"quiet": True})
async def list_messages(view: Viewed) -> Response[str]:
    """The part of it that changes."""
    return view.page("messages_list.html", messages=view.commands.messages())


@get("/messages/new")
async def show_new(request: HtmlRequest, view: Viewed) -> Response[str]:
    """An empty form; `to` may be chosen already."""
    to = request.query_params.get("to", GROUP + groups.EVERYONE)
    return _compose(view, Form({"to": [to]}))


@post("/messages/new")
async def send(view: Viewed, form: Filled) -> Response[str] | Response[bytes]:
    """Accept the message, once for each form; or show who could read it."""
    readers = _look(view, form)
    if form.text("step") == "preview":
        return _compose(view, form, readers=readers)
    text, hours = form.raw("text").strip("\n"), form.number("hours", 0, 87_600, "hours")
    size = len(text.encode())
    if not text.strip():
        form.wrong("text", "Write the message first.")
    elif size > BODY_LIMIT:
        form.wrong("text", f"A message has at most {BODY_LIMIT} bytes; this one has {size}.")
    stream = _stream(form)
    if not form.valid or stream is None:
        return _compose(view, form, 422, readers)
    try:
        if form.text("to").startswith(GROUP):
            done = await view.commands.broadcast(BroadcastOrder(text, stream.name, hours), view.origin(form))
            return see(f"/messages/{done.id}")
        sent = await view.commands.send(stream.name, MessageOrder(text, hours), view.origin(form))
        return see(f"/messages/{sent.id}")
    except UserError as error:
        form.wrong("", str(error))
        return _compose(view, form, 422, readers)


@get("/messages/readers", opt={"quiet": True})
async def show_readers(request: HtmlRequest, view: Viewed) -> Response[str]:
    """Who could read what is sent there."""
    form = Form({"to": [request.query_params.get("to", "")]})
    return view.page("readers.html", form=form, readers=_look(view, form))


@get("/messages/{message:str}")
async def show_message(message: FromPath[str], view: Viewed) -> Response[str]:
    """One message and its receipts."""
    found = _require(view, message)
    return view.page("message.html", message=found, receipts=receipts_of(view, found), states=DELIVERY_STATES)


@get("/messages/{message:str}/receipts", opt={"quiet": True})
async def show_receipts(message: FromPath[str], view: Viewed) -> Response[str]:
    """The part of it that changes."""
    found = _require(view, message)
    return view.page(
        "receipts.html", message=found, receipts=receipts_of(view, found), states=DELIVERY_STATES
    )


def _require(view: View, name: str) -> MessageRow:
    found = view.commands.message(name)
    if found is None:
        raise NotFoundException
    return found


def _compose(view: View, form: Form, status: int = 200, readers: Readers | None = None) -> Response[str]:
    readers = readers if readers is not None or form.errors else _look(view, form)
    to = form.text("to")
    return view.page(
        "message_new.html",
        status,
        form=form,
        key=view.new_key(),
        readers=readers,
        groups=view.commands.group_names(),
        patient=to.removeprefix(PATIENT) if to.startswith(PATIENT) else None,
        hours=view.commands.message_hours,
        section="/messages",
    )


def _stream(form: Form) -> Stream | None:
    to = form.text("to")
    for prefix, of in ((GROUP, streams.of_group), (PATIENT, streams.of_patient)):
        name = to.removeprefix(prefix)
        if to.startswith(prefix) and groups.is_name(name):
            return of(name)
    return None


def _look(view: View, form: Form) -> Readers | None:
    """Who could read it; what is wrong with the choice is said in the form."""
    stream = _stream(form)
    if stream is None:
        form.wrong("to", "Choose who is to read it.")
        return None
    try:
        return view.commands.readers(stream)
    except UserError as error:
        form.wrong("to", str(error))
        return None


HANDLERS = [show_messages, list_messages, show_new, send, show_readers, show_message, show_receipts]
