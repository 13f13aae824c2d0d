"""The bell, the list and the choice of what to be told of, in a browser, against the real program."""

import re

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from tests.browser.looks import check
from tests.browser.talk import ask
from tests.ollama_server import OllamaTestProcess
from tests.program import Program

pytestmark = [pytest.mark.chromium, pytest.mark.usefixtures("calm_model")]


def fail_a_task(page: Page, ollama: OllamaTestProcess) -> None:
    """Have the model refuse a message, which no second try would change."""
    ollama.control(faults=[{"knobs": "status400", "path": "/api/chat", "times": 1}])
    page.goto("/chat")
    ask(page, "Fail, please")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()


def count(page: Page) -> int:
    """What the bell says."""
    badge = page.locator("#bell-count")
    return int(badge.inner_text().split()[0]) if badge.is_visible() else 0


@pytest.fixture
def all_read(page: Page) -> None:
    page.goto("/notifications")
    everything = page.get_by_role("button", name="Mark all read")
    if everything.count():
        everything.click()
    expect(page.locator("#bell-count")).to_be_hidden()


@pytest.mark.usefixtures("all_read")
def test_the_bell_rings_while_a_page_is_open_and_leads_to_what_failed(page: Page, ollama: OllamaTestProcess) -> None:
    fail_a_task(page, ollama)
    expect(page.locator("#bell-count")).to_be_visible()  # nothing was loaded again meanwhile
    assert count(page) == 1

    page.get_by_role("link", name=re.compile("Notifications")).click()
    row = page.locator(".p-news-list li").first
    expect(row).to_contain_text("Task failed: helper")
    expect(row).to_contain_text("Unread")
    row.get_by_role("button", name="Task failed: helper", exact=True).click()
    page.wait_for_url(re.compile(r"/chat/[0-9a-f-]{36}/$"))
    expect(page.locator(".c-user footer").first).to_contain_text("rejected")
    assert count(page) == 0


@pytest.mark.usefixtures("all_read")
def test_one_that_stands_for_many_says_so_and_is_marked_read_with_the_keyboard(
    page: Page, ollama: OllamaTestProcess, program: Program
) -> None:
    fail_a_task(page, ollama)
    program.manage("shell", "-c", "from core.models import Notification; Notification.objects.update(count=2)")
    page.goto("/notifications")
    expect(page.locator(".p-news-list li").first).to_contain_text("2 times")
    assert count(page) == 1
    page.get_by_role("button", name="Mark read: Task failed: helper").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#bell-count")).to_be_hidden()
    expect(page.get_by_role("button", name="Mark all read")).to_have_count(0)


@pytest.mark.usefixtures("all_read")
def test_the_bell_rings_in_the_console_too(page: Page, ollama: OllamaTestProcess) -> None:
    fail_a_task(page, ollama)
    page.goto("/admin/agents/agent/")
    expect(page.locator("#bell-count")).to_be_visible()
    page.locator("#bell").click()
    page.wait_for_url("**/notifications")
    page.get_by_role("button", name="Mark all read").click()
    expect(page.locator("#bell-count")).to_be_hidden()


def test_who_wants_no_news_gets_none_and_needs_no_script_to_say_so(
    program: Program, ollama: OllamaTestProcess, browser: Browser, session_cookie: StorageState, page: Page
) -> None:
    with browser.new_context(base_url=program.url, storage_state=session_cookie, java_script_enabled=False) as context:
        plain = context.new_page()
        plain.goto("/settings")
        expect(plain.get_by_label("Task failed: by email")).to_be_disabled()
        expect(plain.locator("#notifications")).to_contain_text("This server cannot send email")
        plain.get_by_label("Task failed: here").uncheck()
        plain.get_by_role("button", name="Save what I am told").click()
        expect(plain.get_by_text("Saved.")).to_be_visible()
        expect(plain.get_by_label("Task failed: here")).not_to_be_checked()
        plain.goto("/notifications")
        if plain.get_by_role("button", name="Mark all read").count():
            plain.get_by_role("button", name="Mark all read").click()
        fail_a_task(page, ollama)
        page.goto("/dashboard")
        assert count(page) == 0
        plain.goto("/settings")
        plain.get_by_label("Task failed: here").check()
        plain.get_by_role("button", name="Save what I am told").click()


def test_pages_fit_and_can_be_used_by_everybody(page: Page, ollama: OllamaTestProcess) -> None:
    fail_a_task(page, ollama)
    for path in ("/notifications", "/settings", "/account/"):
        page.goto(path)
        assert count(page) == 1
        check(page)
    page.goto("/notifications")
    page.get_by_role("button", name="Mark all read").click()
    page.goto("/notifications?unread")
    expect(page.get_by_text("Nothing is unread")).to_be_visible()
    check(page)
