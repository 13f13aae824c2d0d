"""The console's page of the queues, and one's place in a queue on the page where one waits."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.looks import check
from tests.browser.talk import ask, pace
from tests.ollama_server import OllamaTestProcess

pytestmark = [pytest.mark.chromium, pytest.mark.usefixtures("calm_model")]

SLOTS = 4  # of a node, by default
KEYS = "links => links.map(link => link.dataset.key)"
LOOK_NOW = "document.dispatchEvent(new Event('visibilitychange'))"


def submit(page: Page, count: int) -> list[str]:
    """Submit tasks as the operator who is signed in; returns their ids."""
    (token,) = (cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "sutazai_csrf")
    body = {"agent": "helper", "input": {"message": "hello"}}
    responses = [page.request.post("/api/v1/tasks/", data=body, headers={"X-CSRFToken": token}) for _ in range(count)]
    return [response.json()["task"] for response in responses]


def cancel_all(page: Page) -> None:
    (token,) = (cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "sutazai_csrf")
    for status in ("queued", "running"):
        for task in page.request.get(f"/api/v1/tasks/?status={status}").json()["results"]:
            page.request.post(f"/api/v1/tasks/{task['id']}/cancel/", data={}, headers={"X-CSRFToken": token})


@pytest.fixture
def waiting(page: Page, ollama: OllamaTestProcess) -> Iterator[list[str]]:
    """Two tasks that wait, on an open page of the queue."""
    pace(ollama, "t40-hold20")
    page.goto("/admin/queue/")
    tasks = submit(page, SLOTS + 2)
    expect(page.locator("tbody tr")).to_have_count(2)  # by itself
    yield tasks[SLOTS:]
    cancel_all(page)


def places(page: Page) -> list[str]:
    return [key.removeprefix("task-") for key in page.eval_on_selector_all("[data-key^=task-]", KEYS)]


def test_an_operator_moves_and_cancels_with_the_keyboard(page: Page, waiting: list[str]) -> None:
    first, second = waiting
    assert places(page) == waiting
    page.locator(f"[data-key=menu-{second}]").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_text("goes before all others now")).to_be_visible()
    assert places(page) == [second, first]

    page.locator(f"[data-key=menu-{first}]").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("was cancelled")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(1)


def test_the_page_is_fresh_by_itself_and_leaves_alone_what_one_is_about_to_do(page: Page, waiting: list[str]) -> None:
    menu = page.locator(f"[data-key=menu-{waiting[0]}]")
    menu.focus()
    submit(page, 1)
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(menu).to_be_focused()
    menu.click()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/admin/queue/") else None)
    page.evaluate(LOOK_NOW)
    assert asked == []
    menu.click()
    with page.expect_request("**/admin/queue/"):
        page.evaluate(LOOK_NOW)


def test_it_fits_phones_and_everybody(page: Page, waiting: list[str]) -> None:
    page.locator(f"[data-key=menu-{waiting[0]}]").click()
    check(page, part="#queue", again=False)


def test_who_waits_in_the_chat_sees_the_place_in_the_queue(page: Page, waiting: list[str]) -> None:
    page.goto("/chat")
    ask(page, "How long still?")
    expect(page.locator("#status")).to_contain_text("number 1 in the queue")  # before tasks that nobody waits for
