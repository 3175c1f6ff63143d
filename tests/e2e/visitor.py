"""Somebody at a browser: what the browser complains of and whom it asks is kept, and held against what may be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect

SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
LOCAL = ("data", "blob", "about")


class Visitor:
    """A browser without a past, at one console.

    Attributes:
        page: the one open page.
        complaints: what stood in the browser's own console as an error, scripts' and the policy's.
        hosts: all that was asked, as host:port.
    """

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.context = context
        self.address = address
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        context.on("console", self._hear)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("request", self._see)
        self.page: Page = context.new_page()

    def _hear(self, message: ConsoleMessage) -> None:
        # That a form was refused is no error; the browser says it of every answer of this kind.
        if message.type in ("error", "warning") and "status of 422" not in message.text:
            self.complaints.append(message.text)

    def _see(self, request: Request) -> None:
        asked = urlsplit(request.url)
        if asked.scheme not in LOCAL:
            self.hosts.add(asked.netloc)

    def open(self, path: str) -> None:
        """Go to a page of the console."""
        self.page.goto(self.address + path)

    def log_in(self, password: str, name: str = "admin") -> None:
        """By the form, on the page that is open."""
        self.page.get_by_label("Operator").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()
        expect(self.page.get_by_role("button", name="Log out")).to_be_visible()

    def until_live(self) -> None:
        """Wait until the page hears of what happens."""
        expect(self.page.locator("#live")).to_have_attribute("data-state", "on")

    def picture(self, name: str) -> None:
        """Keep how it looks, in full height."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        # To hide the caret Playwright would write a style into every field; htmx takes that along where it swaps one, and the policy complains.
        path = SCREENSHOTS / f"{name}.png"
        self.page.screenshot(path=path, full_page=True, animations="disabled", caret="initial")

    @contextmanager
    def elsewhere(self, host: str) -> Iterator[None]:
        """Go to another site for the length of the block; what the browser says of an answer there is no complaint."""
        before = len(self.complaints)
        yield
        told = self.complaints[before:]
        del self.complaints[before:]
        assert all("the server responded with a status of" in each for each in told), told
        self.hosts.discard(host)

    def require_peace(self) -> None:
        """The browser has complained of nothing and asked nobody else."""
        assert not self.complaints, self.complaints
        assert self.hosts <= {urlsplit(self.address).netloc}, self.hosts


@contextmanager
def visiting(
    browser: Browser, address: str, width: int = 1280, height: int = 800, dark: bool = False
) -> Iterator[Visitor]:
    """Somebody at a fresh browser; in the end it must have been at peace."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
    )
    try:
        visitor = Visitor(context, address)
        yield visitor
        visitor.require_peace()
    finally:
        context.close()
