"""What people who use agents do in a browser, against the real program."""

import os
import re
import signal
from contextlib import suppress

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.looks import check
from tests.browser.talk import ask, last_answer, pace
from tests.ollama_server import OllamaTestProcess
from tests.program import Program

pytestmark = [pytest.mark.chromium, pytest.mark.usefixtures("calm_model")]


def wait_for_the_end(page: Page) -> None:
    expect(page.get_by_role("button", name="Send")).to_be_enabled()


def test_a_chat_streams_gets_an_address_and_goes_on(page: Page, ollama: OllamaTestProcess) -> None:
    pace(ollama, "t30-d40")
    page.goto("/dashboard")
    page.get_by_role("link", name="New chat").click()
    ask(page, "How are you?")
    expect(page.locator(".c-assistant .c-text").last).to_contain_text("You said")
    page.wait_for_url(re.compile(r"/chat/[0-9a-f-]{36}/$"))
    wait_for_the_end(page)
    assert last_answer(page).endswith("w29")
    address = page.url
    ask(page, "And now?")
    wait_for_the_end(page)
    assert page.url == address
    assert page.locator(".c-turn").count() == 4

    page.goto("/dashboard")
    page.get_by_role("link", name="How are you?").first.click()
    assert page.url == address
    expect(page.locator(".c-user .c-text")).to_have_text(["How are you?", "And now?"])


def test_a_message_is_not_lost_that_is_written_before_the_page_can_send_it(page: Page) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/panel/chat*.js", hold)
    with page.expect_request("**/panel/chat*.js"):
        page.goto("/chat", wait_until="commit")
    page.get_by_label("Message").fill("Early")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()

    held[0].continue_()

    wait_for_the_end(page)
    expect(page.get_by_label("Message")).to_have_value("Early")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".c-assistant .c-text").last).to_contain_text("You said: Early")


def test_what_goes_on_is_still_going_on_after_a_reload(page: Page, ollama: OllamaTestProcess) -> None:
    pace(ollama, "t60-hold20")
    page.goto("/chat")
    ask(page, "Take your time")
    expect(page.locator(".c-assistant .c-text").last).to_contain_text("w19")
    page.reload()
    expect(page.locator(".c-assistant .c-text").last).to_contain_text("w19")
    ollama.control(release=True)
    wait_for_the_end(page)
    answer = last_answer(page)
    assert [answer.count(f"w{number} ") for number in range(10, 59)] == [1] * 49
    assert answer.endswith("w59")


def test_an_answer_survives_the_death_of_the_server_that_sends_it(
    page: Page, program: Program, ollama: OllamaTestProcess, complaints: list[str]
) -> None:
    pace(ollama, "t80-hold20")
    page.goto("/chat")
    ask(page, "Hold on")
    expect(page.locator(".c-assistant .c-text").last).to_contain_text("w19")
    for pid in [*program.pids("web-master"), *program.pids("web")]:
        with suppress(ProcessLookupError):  # the death of one may have been that of another
            os.kill(pid, signal.SIGKILL)
    ollama.control(release=True)
    wait_for_the_end(page)
    answer = last_answer(page)
    assert [answer.count(f"w{number} ") for number in range(10, 79)] == [1] * 69
    assert all("ERR_" in complaint for complaint in complaints)  # the tries while nobody answered
    complaints.clear()


def test_stop_stops_and_ask_again_asks_again(page: Page, ollama: OllamaTestProcess) -> None:
    pace(ollama, "t40-hold20")
    page.goto("/chat")
    ask(page, "Never stop")
    expect(page.locator(".c-assistant .c-text").last).to_contain_text("You said")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".c-assistant footer").last).to_contain_text("Stopped")
    ollama.control(reset=True)
    page.get_by_role("button", name="Ask again").click()
    wait_for_the_end(page)
    assert "You said: Never stop" in last_answer(page)
    page.reload()
    expect(page.locator(".c-user footer").first).to_contain_text("Stopped")


def test_it_works_with_the_keyboard_alone(page: Page) -> None:
    page.goto("/chat")
    expect(page.get_by_label("Message")).to_be_focused()
    page.keyboard.type("One line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("and another")
    page.keyboard.press("Enter")
    wait_for_the_end(page)
    expect(page.locator(".c-user .c-text")).to_have_text("One line\nand another")
    expect(page.get_by_label("Message")).to_be_focused()


def test_a_key_is_made_shown_once_and_revoked(page: Page) -> None:
    page.goto("/settings")
    page.get_by_label("What it is for").fill("nightly reports")
    page.get_by_role("button", name="Make a key").click()
    text = page.locator("#key").inner_text()
    assert text.startswith("stz_")
    page.get_by_role("link", name="I have copied it").click()
    assert text not in page.content()
    key = page.locator("li", has_text="nightly reports")
    expect(key).to_contain_text("Active")
    key.get_by_role("button", name="Revoke").click()
    expect(page.locator("li", has_text="nightly reports")).to_contain_text("Revoked")


def test_pages_fit_and_can_be_used_by_everybody(page: Page) -> None:
    page.goto("/chat")
    ask(page, "Something to look at")
    wait_for_the_end(page)
    for path in (page.url, "/dashboard", "/chat", "/settings"):
        page.goto(path)
        check(page)
