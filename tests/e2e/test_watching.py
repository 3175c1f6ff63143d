"""A clinician watches: vitals draw themselves, an alert is raised and seen, a stranger is told of in words, the log verifies."""

from __future__ import annotations

from playwright.sync_api import Browser, Page, expect

from tests.e2e.clinic import Clinic
from tests.e2e.visitor import Visitor, visiting

PLACES = {
    "patients-and-alerts": "/",
    "vitals": "/patients/anna",
    "security": "/events",
    "audit-log": "/audit",
    "thresholds": "/patients/anna/thresholds",
}


def test_vitals_are_watched_and_what_happened_is_told_in_words(browser: Browser, clinic: Clinic) -> None:
    """By keyboard where there is a form; at every width and in both schemes nothing reaches over the edge."""
    with visiting(browser, clinic.address) as visitor:
        page = visitor.page
        visitor.open("/")
        visitor.log_in(clinic.password)
        clinic.admit("anna", vitals_every=1)
        clinic.until_established()
        _watch_vitals(page, visitor)
        _raise_an_alert(page)
        _see_it_by_keyboard(page, visitor)
        _read_of_a_stranger(page, visitor, browser)
        _verify_the_log(page, visitor)
    for width, dark in ((360, False), (360, True), (1600, True)):
        with visiting(browser, clinic.address, width=width, dark=dark) as visitor:
            visitor.open("/")
            visitor.log_in(clinic.password)
            for name, path in PLACES.items():
                visitor.open(path)
                visitor.until_live()
                visitor.picture(f"{name}-{width}{'-dark' if dark else ''}")
                assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width, path


def _watch_vitals(page: Page, visitor: Visitor) -> None:
    """Nobody reloads: the drawings appear when the first reading has come, and the table has it too."""
    visitor.open("/patients/anna")
    expect(page.locator("#charts svg").first).to_be_visible()
    page.get_by_text("The readings as a table").click()
    expect(page.locator("#readings tbody tr").nth(1)).to_be_visible()


def _raise_an_alert(page: Page) -> None:
    """A threshold that every reading breaks; one that cannot be is refused beside its field."""
    page.get_by_role("link", name="Change the thresholds").click()
    heart = page.get_by_role("group", name="Heart rate")
    heart.get_by_label("Below").fill("200")
    heart.get_by_label("Above").fill("20")
    page.get_by_role("button", name="Set the thresholds").click()
    expect(page.get_by_role("alert")).to_contain_text("has to be above the other one")
    heart.get_by_label("Below").fill("200")
    heart.get_by_label("Above").fill("")
    page.get_by_role("button", name="Set the thresholds").click()
    expect(page.locator(".notice")).to_contain_text("from the next reading on")
    expect(page.locator("#alerts")).to_contain_text("Heart rate below 200 /min")


def _see_it_by_keyboard(page: Page, visitor: Visitor) -> None:
    """On the first page, where it stands too."""
    visitor.open("/")
    expect(page.locator("#alerts")).to_contain_text("1 alert nobody has seen yet")
    expect(page.get_by_role("row", name="anna")).to_contain_text("1 alert")
    visitor.picture("alert")
    page.get_by_role("button", name="I have seen alert").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_contain_text("you have seen it")
    expect(page.locator("#alerts")).not_to_contain_text("nobody has seen")


def _read_of_a_stranger(page: Page, visitor: Visitor, browser: Browser) -> None:
    """Somebody tries a password: the page that is open says so by itself, from where, and what to do."""
    visitor.open("/events")
    visitor.until_live()
    with visiting(browser, visitor.address) as stranger:
        stranger.open("/")
        stranger.page.get_by_label("Operator").fill("admin")
        stranger.page.get_by_label("Password").fill("a guess")
        stranger.page.get_by_role("button", name="Log in").click()
        expect(stranger.page.get_by_role("alert")).to_contain_text("Name or password is wrong")
    expect(page.locator("#events")).to_contain_text("A wrong password for admin")
    expect(page.locator("#events")).to_contain_text("from 127.0.0.1")
    expect(page.locator("#events .advice").first).to_contain_text("look at the address")


def _verify_the_log(page: Page, visitor: Visitor) -> None:
    """By one click, in words; and what was done here stands in it."""
    visitor.open("/audit?action=thresholds-changed&object=anna")
    expect(page.get_by_role("row", name="Thresholds changed")).to_contain_text("heart-rate 200:")
    page.get_by_role("button", name="Verify the whole log").click()
    expect(page.get_by_role("status", name="Verification")).to_contain_text("Nothing was changed.")
