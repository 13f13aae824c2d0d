"""Webhooks as an operator meets them, in a real browser, against the real program and a real receiver."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.browser import program_for
from tests.browser.looks import CONSOLE, check
from tests.ollama_server import OllamaTestProcess
from tests.program import Program
from tests.servers import Receiver

pytestmark = pytest.mark.chromium

LIST, DELIVERIES = "/admin/core/webhook/", "/admin/core/webhookdelivery/"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, ollama: OllamaTestProcess) -> Iterator[Program]:
    """The program, with webhooks that may lead to this machine."""
    folder = tmp_path_factory.mktemp("program")
    with program_for(folder, ollama, SUTAZAI_WEBHOOK_NETWORKS="127.0.0.1") as running:
        yield running


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def test_an_operator_adds_a_webhook_tries_it_and_mends_it(page: Page, receiver: Receiver) -> None:
    page.goto("/admin/")
    page.get_by_role("link", name="Webhooks").click()
    expect(page.get_by_text("A webhook tells another program")).to_be_visible()
    check(page, part=CONSOLE)
    page.goto(DELIVERIES)
    expect(page.get_by_text("Nothing was sent to a webhook so far.")).to_be_visible()
    check(page, part=CONSOLE)

    page.goto(f"{LIST}add/")
    check(page, part=CONSOLE)
    page.get_by_label("Name").fill("ops-room")
    page.get_by_label("Address").fill("http://192.168.1.7/hook")
    page.get_by_label("Alert").check()
    page.get_by_label("Backup failed").check()
    page.locator("[name=_save]").click()
    expect(page.get_by_text("is in no network that SUTAZAI_WEBHOOK_NETWORKS allows")).to_be_visible()
    page.get_by_label("Address").fill(receiver.url)
    page.locator("[name=_save]").click()
    expect(page.locator("#webhook-secret")).to_contain_text("whsec_")
    check(page, part=CONSOLE, again=False)
    page.get_by_role("link", name="I have copied it").click()

    receiver.answers, receiver.text = [500], "The kettle is on fire"
    page.get_by_role("button", name="Send a test").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("ops-room did not take it. It answered 500: The kettle is on fire")).to_be_visible()
    expect(page.get_by_text("Mend the receiver")).to_be_visible()
    check(page, part=CONSOLE)
    page.goto("/admin/")
    expect(page.get_by_text("The webhook ops-room does not take what it is sent")).to_be_visible()
    page.goto(LIST)
    expect(page.get_by_role("row", name="ops-room")).to_contain_text("It answered 500")
    check(page, part=CONSOLE)

    page.get_by_role("link", name="What was sent").click()
    check(page, part=CONSOLE)
    page.get_by_role("link", name="Test of the webhook ops-room").click()
    check(page, part=CONSOLE)
    receiver.text = ""
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("ops-room took it: it answered 204.")).to_be_visible()
    assert [json.loads(request.body)["type"] for request in receiver.received] == ["test", "test"]
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 1
    page.goto(LIST)
    expect(page.get_by_role("row", name="ops-room")).to_contain_text("Works")
