"""An operator's way through the console, in a real browser, against the real program."""

import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.looks import CONSOLE, check, fits
from tests.browser.talk import ask, last_answer, pace
from tests.ollama_server import OllamaTestProcess

pytestmark = [pytest.mark.chromium, pytest.mark.usefixtures("calm_model")]


def cut(route: Route, *, events: int) -> None:
    """Let a stream break after so many events."""
    response = route.fetch()
    first = response.text().split("\n\n")[:events]
    route.fulfill(response=response, body="".join(f"{event}\n\n" for event in first))


def open_last_task(page: Page) -> None:
    page.locator(".c-assistant footer").last.get_by_role("link", name="Task").click()
    page.wait_for_url("**/agenttask/*/change/")


def test_the_dashboard_draws_real_rows_and_refreshes_itself(page: Page) -> None:
    page.goto("/admin/playground/")
    ask(page, "Draw me")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    page.goto("/admin/")

    expect(page.locator("#charts canvas").first).to_be_visible()
    expect(page.locator("#tables")).to_contain_text("ollama")
    with page.expect_response("**/admin/dashboard/") as answer:
        pass
    assert answer.value.status == 200
    expect(page.locator("#freshness")).to_contain_text("As of")


def test_an_answer_streams_word_by_word_and_becomes_a_task(page: Page, ollama: OllamaTestProcess) -> None:
    pace(ollama, "t40-hold20")
    page.goto("/admin/playground/")

    ask(page, "Hello there")
    expect(page.locator(".c-assistant .c-text").last).to_contain_text("You said")
    early = last_answer(page)
    ollama.control(release=True)
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    whole = last_answer(page)

    assert whole.startswith(early)
    assert len(whole) > len(early)
    assert whole.endswith("w39")
    open_last_task(page)
    expect(page.locator("#output")).to_have_text(whole)
    expect(page.locator("[data-fresh=head]")).to_contain_text("Succeeded")
    expect(page.locator("[data-fresh=timeline]")).to_contain_text("pieces of text")
    expect(page.locator(".c-phases span").first).to_be_attached()


def test_stop_ends_the_answer_and_the_models_work(page: Page, ollama: OllamaTestProcess) -> None:
    pace(ollama, "t40-hold20")
    page.goto("/admin/playground/")

    ask(page, "Never stop")
    expect(page.locator(".c-assistant .c-text").last).to_contain_text("You said")
    page.get_by_role("button", name="Stop").click()

    expect(page.locator(".c-assistant footer").last).to_contain_text("Stopped")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    open_last_task(page)
    expect(page.locator("[data-fresh=head]")).to_contain_text("Cancelled")
    expect(page.locator("[data-fresh=error]")).to_contain_text("What to do")


def test_a_conversation_goes_on_in_its_session(page: Page) -> None:
    page.goto("/admin/playground/")
    for text in ("First", "Second"):
        ask(page, text)
        expect(page.get_by_role("button", name="Send")).to_be_enabled()
    open_last_task(page)

    page.get_by_role("link", name="Read it").click()

    expect(page.locator(".c-turn.c-user .c-text")).to_have_text(["First", "Second"])
    expect(page.locator(".c-turn.c-assistant .c-text")).to_have_text([re.compile("First"), re.compile("Second")])


def test_the_task_page_shows_a_running_answer_live_and_cancels_it(page: Page, ollama: OllamaTestProcess) -> None:
    pace(ollama, "t40-hold30")
    page.goto("/admin/playground/")
    ask(page, "Watch me")
    expect(page.locator(".c-assistant footer").last.get_by_role("link", name="Task")).to_be_attached()
    open_last_task(page)

    expect(page.locator("#output")).to_contain_text("w20")
    expect(page.locator("#live-note")).to_have_text("live")
    page.get_by_role("button", name="Cancel").click()

    expect(page.locator("[data-fresh=head]")).to_contain_text("Cancelled")
    page.get_by_role("button", name="Run again").click()
    expect(page.locator("#output")).to_contain_text("You said: Watch me")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("[data-fresh=head]")).to_contain_text("Cancelled")


def test_a_broken_connection_is_picked_up_where_it_broke(page: Page, ollama: OllamaTestProcess) -> None:
    """The answer of the first request is cut by the test; what follows comes by another one, from its last number."""
    pace(ollama, "t40-d60")
    resumed = []
    page.on("request", lambda request: resumed.append(request) if request.url.endswith("/events") else None)
    page.route("**/api/v1/chat/", lambda route: cut(route, events=3))
    page.goto("/admin/playground/")

    ask(page, "Hold the line")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()

    answer = last_answer(page)
    assert answer.startswith("You said: Hold the line")
    assert [answer.count(f"w{number} ") for number in range(10, 39)] == [1] * 29
    assert answer.endswith("w39")
    assert [request.all_headers()["last-event-id"] for request in resumed] == ["3"]


def test_what_a_model_writes_is_text(page: Page) -> None:
    page.goto("/admin/playground/")

    ask(page, "<img src=x onerror=document.title='gone'>")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()

    assert page.locator(".c-turn img").count() == 0
    assert "<img src=x" in last_answer(page)
    open_last_task(page)
    assert page.locator("#output img").count() == 0
    assert "gone" not in page.title()


def test_a_refusal_is_told(page: Page, complaints: list[str]) -> None:
    page.goto("/admin/playground/")

    ask(page, "x" * 100_001)

    expect(page.locator(".c-assistant .c-text").last).to_contain_text("At most 100000 characters")
    assert complaints == ["Failed to load resource: the server responded with a status of 422 (Unprocessable Entity)"]
    complaints.clear()


def test_it_works_with_the_keyboard_alone(page: Page) -> None:
    page.goto("/admin/playground/")

    page.get_by_label("Message").focus()
    page.keyboard.type("One line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("and another")
    page.keyboard.press("Enter")

    expect(page.locator(".c-turn.c-user .c-text")).to_have_text("One line\nand another")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    expect(page.get_by_label("Message")).to_be_focused()


def test_nothing_is_wider_than_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/admin/playground/")
    ask(page, "Leave a task and a session behind")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    too_wide = []
    for path in ("", "playground/", "core/apikey/add/", "agents/node/add/", "agents/agent/add/"):
        page.goto(f"/admin/{path}")
        too_wide += [] if fits(page) else [path]
    lists = ("agents/agenttask/", "agents/chatsession/", "agents/node/", "agents/agent/", "core/user/", "core/team/")
    for path in (*lists, "core/maintenancerun/", "django_celery_beat/periodictask/", "core/apikey/"):
        page.goto(f"/admin/{path}")
        too_wide += [] if fits(page) else [path]
        first = page.locator("#result_list a[href*='/change/']").first
        if first.count():
            page.goto(first.get_attribute("href") or "")
            too_wide += [] if fits(page) else [page.url]
    assert too_wide == []


@pytest.mark.parametrize(
    "page_name", ["health", "core/maintenancerun", "core/slowquery", "cache", "pools", "workers", "core/backup"]
)
def test_pages_of_operations_are_one_click_away_and_can_be_used_by_everybody(page: Page, page_name: str) -> None:
    page.goto("/admin/")
    assert page.locator(f"a[href='/admin/{page_name}/']").count()
    page.goto(f"/admin/{page_name}/")
    check(page, part=CONSOLE)
