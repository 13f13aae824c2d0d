"""The console's page of backups: a worker makes one and tries it while the operator looks."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.looks import CONSOLE, check
from tests.program import wait_for

pytestmark = pytest.mark.chromium

PAGE = "/admin/core/backup/"


def shows(page: Page, text: str) -> bool:
    page.goto(PAGE)
    return page.locator("#result_list, .c-nothing").get_by_text(text).count() > 0


def test_an_operator_makes_the_first_backup_and_has_it_tried(page: Page) -> None:
    page.goto("/admin/")
    page.get_by_role("link", name="Backups").click()
    expect(page.get_by_text("There is no backup yet")).to_be_visible()
    check(page, part=CONSOLE)

    page.get_by_role("button", name="Back up now").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("A worker does it")).to_be_visible()
    wait_for(lambda: shows(page, "Never tried"), "the backup is in the list")

    page.get_by_role("button", name="Try the newest").click()
    wait_for(lambda: shows(page, "Passed"), "the backup was tried")
    expect(page.get_by_text("The newest good backup was tried")).to_be_visible()
    check(page, part=CONSOLE)

    page.locator("#result_list a[href*='/change/']").first.click()
    expect(page.get_by_text("checksums are right")).to_be_visible()
    check(page, part=CONSOLE)
