"""A clinician's first round, from the first password to the logout."""

from __future__ import annotations

from playwright.sync_api import Browser, Page, expect

from shared.wire.checks import Check
from tests.e2e.clinic import REVOKED_EXIT, Clinic
from tests.e2e.visitor import visiting

BEDS = [f"bed-{number:02}" for number in range(1, 6)]
TEXT = "Please take your medication at noon, with a glass of water."


def test_a_first_round_from_the_first_password_to_the_logout(browser: Browser, clinic: Clinic) -> None:
    """Log in, watch five patients come up, broadcast, see five receipts, revoke one and see it refused, log out."""
    with visiting(browser, clinic.address) as visitor:
        page = visitor.page
        visitor.open("/")
        visitor.picture("login")
        visitor.log_in(clinic.password)
        expect(page.get_by_text("Nobody is here yet")).to_be_visible()
        visitor.until_live()
        _watch_five_come_up(page, clinic)
        visitor.picture("patients")
        _broadcast(page, clinic)
        visitor.picture("receipts")
        _revoke(page, clinic, BEDS[0])
        visitor.picture("revoked")
        _see_the_refusal(page, clinic, BEDS[1])
        visitor.picture("refused")
        _see_who_is_left(page)
        visitor.picture("left")
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def _watch_five_come_up(page: Page, clinic: Clinic) -> None:
    """Nobody reloads: each row appears and turns green by itself."""
    clinic.admit(*BEDS)
    for name in BEDS:
        expect(page.get_by_role("row", name=name)).to_contain_text("Connected")
    expect(page.locator(".counts")).to_contain_text("5 connected")


def _broadcast(page: Page, clinic: Clinic) -> None:
    """The preview names all five; the receipts fill up, and each device shows the text."""
    page.get_by_role("link", name="Messages").click()
    page.get_by_role("link", name="New message").click()
    for name in BEDS:
        expect(page.locator("#readers")).to_contain_text(name)
    page.get_by_label("Message", exact=True).fill(TEXT)
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#receipts")).to_contain_text("5 of 5 have it")
    for name in BEDS:
        expect(page.get_by_role("listitem").filter(has_text=name)).to_contain_text("Delivered")
        clinic.until_read(name, TEXT)


def _revoke(page: Page, clinic: Clinic, name: str) -> None:
    """The confirmation wants the name; a wrong one is refused and changes nothing. The device is cut off and ends."""
    page.get_by_role("link", name=name).click()
    expect(page.locator("#exchanged")).to_contain_text(TEXT)
    page.get_by_role("link", name="Revoke …").click()
    page.get_by_label(f"Type {name} to confirm").fill(f"not {name}")
    page.get_by_role("button", name=f"Revoke {name}").click()
    expect(page.get_by_role("alert")).to_contain_text(f"Type {name} here")
    _confirm(page, name)
    assert clinic.exit_code(name) == REVOKED_EXIT
    expect(page.locator("#state")).to_contain_text("Cut off for good")
    expect(page.locator("#state")).to_contain_text(f"{name} was revoked by admin")
    expect(page.get_by_role("link", name="Write a message")).to_have_count(0)


def _confirm(page: Page, name: str) -> None:
    page.get_by_label(f"Type {name} to confirm").fill(name)
    page.get_by_role("button", name=f"Revoke {name}").click()
    expect(page.locator(".notice")).to_contain_text("Revoked: its connection is cut")


def _see_the_refusal(page: Page, clinic: Clinic, name: str) -> None:
    """A device is revoked while it is away: when it comes back it is refused, and the console says that it was, and by which check."""
    clinic.stop(name)
    page.get_by_role("link", name="All patients").click()
    expect(page.get_by_role("row", name=name)).to_contain_text("Away")
    page.get_by_role("link", name=name).click()
    page.get_by_role("link", name="Revoke …").click()
    _confirm(page, name)
    clinic.restart(name)
    assert clinic.exit_code(name) == REVOKED_EXIT
    page.get_by_role("link", name="Protocol").click()
    drawn, rule = page.locator("#drawing"), Check.NOT_REVOKED.value
    expect(drawn).to_contain_text("Refused")
    expect(drawn).to_contain_text(f"{rule.number} demands that {rule.text}. It did not hold")


def _see_who_is_left(page: Page) -> None:
    page.get_by_role("link", name="Patients", exact=True).click()
    for name in BEDS[:2]:
        expect(page.get_by_role("row", name=name)).to_contain_text("Revoked")
    expect(page.locator(".counts")).to_contain_text("3 connected")
