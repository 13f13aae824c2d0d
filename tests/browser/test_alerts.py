"""Alerts as an operator meets them, in a real browser, against the real program."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.looks import CONSOLE, check
from tests.program import Program

pytestmark = pytest.mark.chromium

LIST, WATCHED = "/admin/core/alert/", "/admin/alerts/"
# The watch resolves it after a minute at the earliest, for there is no such node.
LOSE_NODE = """
from core.models import Alert
from tests.factories import make_alert
Alert.objects.all().delete()
print(make_alert(labels={"node": "gpu-2"}).pk)
"""


@pytest.fixture
def alert(program: Program) -> str:
    """The address of the page of an alert that fires."""
    key = program.manage("shell", "--verbosity", "0", "--command", LOSE_NODE)
    return f"{LIST}{key}/change/"


def test_from_the_dashboard_to_what_to_do_and_who_does_it(page: Page, alert: str) -> None:
    page.goto("/admin/")
    expect(page.get_by_text("The node gpu-2 is lost.")).to_be_visible()
    page.get_by_role("link", name="What to do").click()
    page.wait_for_url(f"**{alert}")
    page.get_by_label("Note").fill("New disks")
    page.keyboard.press("Enter")
    expect(page.get_by_text("New disks")).to_be_visible()
    page.get_by_label("Reason").fill("They take an hour")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Silenced until")).to_be_visible()

    page.goto(LIST)
    row = page.get_by_role("row", name="The node gpu-2 is lost")
    expect(row).to_contain_text("Silenced")
    expect(row).to_contain_text("by operator")
    page.get_by_role("link", name="What is watched").click()
    page.get_by_role("button", name="End the silence of NodeLost").click()
    expect(page.get_by_text("Nothing is silenced")).to_be_visible()


def test_the_pages_fit_and_can_be_used_by_everybody(page: Page, alert: str) -> None:
    for path in (LIST, alert, WATCHED):
        page.goto(path)
        check(page, part=CONSOLE, boxes=True)
