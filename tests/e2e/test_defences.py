"""What others write stays text, what others send is refused, and what was seen is gone after the logout."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from tests.e2e.clinic import Clinic
from tests.e2e.visitor import visiting

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


def test_text_stays_text_forged_forms_change_nothing_and_a_logout_ends_it(
    browser: Browser, clinic: Clinic
) -> None:
    """A body full of script is shown as it is, at 360 px too; a form without its token is refused; back shows nothing."""
    clinic.admit("anna")
    with visiting(browser, clinic.address, width=360) as visitor:
        page = visitor.page
        visitor.open("/")
        visitor.log_in(clinic.password)
        visitor.open("/messages/new")
        page.get_by_label("Message", exact=True).fill(HOSTILE)
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_label("Text")).to_contain_text(HOSTILE)
        assert "owned" not in page.title()
        for path in ("/", "/messages", "/messages/new", "/groups", "/invitations", "/account"):
            visitor.open(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        forged = visitor.context.request.post(
            f"{clinic.address}/groups", form={"name": "forged"}, headers={"Origin": clinic.address}
        )
        assert forged.status == 403
        foreign = visitor.context.request.post(
            f"{clinic.address}/groups",
            form={"name": "forged"},
            headers={"Origin": "http://elsewhere.example"},
        )
        assert foreign.status == 403
        visitor.open("/groups")
        expect(page.get_by_text("forged")).to_have_count(0)
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        page.go_back()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
