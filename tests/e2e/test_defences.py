"""What others write stays text, what others send is refused, and what was seen is gone after the logout."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from playwright.sync_api import Browser, Page, Route, expect

from tests.e2e.clinic import Clinic
from tests.e2e.visitor import Visitor, visiting

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
HOSTILE_NAME = '"><svg onload="document.title=\'owned\'">'
ELSEWHERE = "http://elsewhere.example"
PAGES = (
    *("/", "/messages", "/messages/new", "/groups", "/invitations", "/account", "/protocol"),
    *("/alerts", "/events", "/audit", "/patients/anna", "/patients/anna/thresholds"),
)


def test_what_patients_and_people_write_is_shown_and_never_run(browser: Browser, clinic: Clinic) -> None:
    """Bodies of messages and replies, and names in every form: as they were written, at 360 px too, and nothing in them happens."""
    clinic.admit("anna")
    clinic.until_established()
    with visiting(browser, clinic.address, width=360) as visitor:
        page = visitor.page
        visitor.open("/")
        _fill(page, "Log in", Operator=HOSTILE_NAME, Password="wrong")
        expect(page.get_by_role("alert")).to_be_visible()
        expect(page.get_by_label("Operator")).to_have_value(HOSTILE_NAME)
        visitor.log_in(clinic.password)
        visitor.open("/messages/new")
        page.get_by_label("Message", exact=True).fill(HOSTILE)
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_label("Text")).to_contain_text(HOSTILE)
        clinic.report("anna", HOSTILE)
        visitor.open("/patients/anna")
        expect(page.get_by_role("region", name="Messages")).to_contain_text(HOSTILE)
        expect(page.get_by_role("region", name="Replies")).to_contain_text(HOSTILE)
        visitor.picture("hostile")
        _refuse_hostile_names(visitor)
        for path in PAGES:
            visitor.open(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
            assert "owned" not in page.title(), path


def _refuse_hostile_names(visitor: Visitor) -> None:
    """Each form says what a name is, and shows what was typed."""
    page = visitor.page
    visitor.open("/groups")
    _fill(page, "Make the group", Name=HOSTILE_NAME)
    expect(page.get_by_role("alert")).to_contain_text("a-z, 0-9")
    expect(page.get_by_label("Name")).to_have_value(HOSTILE_NAME)
    visitor.open("/invitations")
    _fill(page, "Make the invitation", **{"Name of the patient or bed": HOSTILE_NAME})
    expect(page.get_by_role("alert")).to_contain_text("a-z, 0-9")
    expect(page.get_by_label("Name of the patient or bed")).to_have_value(HOSTILE_NAME)
    for path in (f"/messages/new?to={quote('patient:' + HOSTILE_NAME)}", f"/?q={quote(HOSTILE_NAME)}"):
        visitor.open(path)
        assert "owned" not in page.title(), path
    asked = visitor.context.request.get(f"{visitor.address}/patients/{quote(HOSTILE_NAME, safe='')}")
    assert (asked.status, "<svg" in asked.text()) == (404, False)


def test_a_form_that_is_not_the_consoles_own_changes_nothing(browser: Browser, clinic: Clinic) -> None:
    """Without its token, with a foreign origin, and sent by a page elsewhere with the operator's cookies at hand."""
    with visiting(browser, clinic.address) as visitor:
        page = visitor.page
        visitor.open("/")
        visitor.log_in(clinic.password)
        for origin in (clinic.address, ELSEWHERE):
            forged = visitor.context.request.post(
                f"{clinic.address}/groups", form={"name": "forged"}, headers={"Origin": origin}
            )
            assert forged.status == 403
        with visitor.elsewhere(urlsplit(ELSEWHERE).netloc):
            page.route(f"{ELSEWHERE}/**", lambda route: _serve_trap(route, clinic.address))
            page.goto(f"{ELSEWHERE}/kittens")
            with page.expect_navigation(url=f"{clinic.address}/**") as navigated:
                page.get_by_role("button", name="More kittens").click()
            assert navigated.value is not None
            assert navigated.value.status in (403, 303)
        visitor.open("/groups")
        expect(page.get_by_role("table")).to_contain_text("everyone")
        expect(page.get_by_text("forged")).to_have_count(0)


def _serve_trap(route: Route, address: str) -> None:
    """A page that makes a group at the console, if that lets it."""
    form = f'<form method="post" action="{address}/groups"><input type="hidden" name="name" value="forged">'
    route.fulfill(content_type="text/html", body=f"{form}<button>More kittens</button></form>")


def test_a_logout_ends_it_for_whoever_kept_the_cookie_too(browser: Browser, clinic: Clinic) -> None:
    """Back shows the login, and a copy of the cookies opens nothing any more."""
    with visiting(browser, clinic.address) as visitor, visiting(browser, clinic.address) as thief:
        page = visitor.page
        visitor.open("/")
        visitor.log_in(clinic.password)
        visitor.open("/groups")
        stolen = visitor.context.cookies()
        assert all(cookie.get("httpOnly") for cookie in stolen)
        thief.context.add_cookies([{**cookie} for cookie in stolen])  # type: ignore[typeddict-item]  # the same keys
        thief.open("/groups")
        expect(thief.page.get_by_role("heading", name="Groups")).to_be_visible()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        page.go_back()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        thief.open("/groups")
        expect(thief.page.get_by_role("heading", name="Log in")).to_be_visible()


def _fill(page: Page, button: str, **fields: str) -> None:
    for label, value in fields.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name=button).click()
