"""`make demo KEEP=1` on a machine without a container engine: it says where the console is, and stays until Ctrl-C."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.e2e.terminal import Terminal
from tests.e2e.visitor import visiting

PROGRAM = str(Path(sys.executable).with_name("telemed-lab"))


def test_the_demo_that_is_kept_lets_one_in_at_the_printed_address_and_ends_with_ctrl_c(
    browser: Browser,
) -> None:
    """Log in with what it prints, broadcast to who is left, press Ctrl-C: everything ends, in good order, and nothing stays behind."""
    began = time.monotonic()
    with Terminal([PROGRAM, "demo", "--patients", "3", "--keep"]) as terminal:
        address = terminal.until(r"Console +(http://127\.0\.0\.1:\d+)/\s")[1]
        operator = terminal.until(r"Operator +(\S+)\n")[1]
        password = terminal.until(r"Password +(\S+)\n")[1]
        terminal.until(r"Commands +TELEMED_DOCTOR_STATE_DIR=\S+ telemed-doctor patients\n")
        verified = time.monotonic() - began
        with visiting(browser, address) as visitor:
            page = visitor.page
            visitor.open("/")
            visitor.log_in(password, operator)
            expect(page.get_by_role("row", name="bed-01")).to_contain_text("Revoked")
            for name in ("bed-02", "bed-03"):
                expect(page.get_by_role("row", name=name)).to_contain_text("Connected")
            visitor.open("/messages/new")
            page.get_by_label("Message", exact=True).fill("Still here?")
            page.get_by_role("button", name="Send").click()
            expect(page.locator("#receipts")).to_contain_text("2 of 2 have it")
            visitor.picture("demo")
        assert len(terminal.processes()) == 4

        terminal.press_ctrl_c()

        assert terminal.exit_code() == 0, terminal.text
        assert "Traceback" not in terminal.text
        seconds = terminal.until(r"Every step was verified in ([0-9.]+) s\.")[1]
        assert float(seconds) <= verified, "it counts the time in which it was kept"
        assert terminal.processes() == []
