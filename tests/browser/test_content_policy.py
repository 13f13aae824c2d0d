"""Every page, crawled in a real browser: none does anything that its content policy forbids."""

import pytest
from playwright.sync_api import Page, expect

from tests.ollama_server import OllamaTestProcess

pytestmark = pytest.mark.chromium

CONSOLE = "/admin/"
# Signing out or confirming would end the crawl; files are no pages.
SKIPPED = ("logout", "jsi18n", "/docs", "/export/")
MOST_PAGES = 120
COLLECT = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
});
"""


@pytest.fixture
def strict_page(page: Page) -> Page:
    page.add_init_script(COLLECT)
    return page


def visit(page: Page, path: str) -> list[str]:
    """Open a page and wait until it has drawn itself; returns what it tried against its policy."""
    page.goto(path)
    page.wait_for_load_state("load")
    return [f"{path}: {violation}" for violation in page.evaluate("window.violations")]


def links(page: Page) -> list[str]:
    """The console's pages that this one leads to: one row of each list is enough, and no sorted one."""
    found = page.eval_on_selector_all(
        "a[href]", "links => links.map(link => link.pathname + (link.origin === location.origin ? '' : ' elsewhere'))"
    )
    pages = [path for path in found if path.startswith(CONSOLE) and not any(part in path for part in SKIPPED)]
    return list(dict.fromkeys(pages))


def shape(path: str) -> str:
    """A path without the numbers and keys in it: two tasks' pages have the same shape."""
    return "/".join("*" if any(c.isdigit() for c in part) else part for part in path.split("/"))


def test_no_page_of_the_console_does_what_its_policy_forbids(strict_page: Page, ollama: OllamaTestProcess) -> None:
    ollama.control(reset=True)
    strict_page.goto("/admin/playground/")
    strict_page.get_by_label("Message").fill("Leave a task behind")
    strict_page.get_by_role("button", name="Send").click()
    expect(strict_page.get_by_role("button", name="Send")).to_be_enabled()

    waiting, seen, violations = [CONSOLE], {shape(CONSOLE)}, []
    visited = 0
    while waiting and visited < MOST_PAGES:
        violations += visit(strict_page, waiting.pop(0))
        visited += 1
        for path in links(strict_page):
            if shape(path) not in seen:
                seen.add(shape(path))
                waiting.append(path)
    assert violations == []
    assert waiting == []
    assert {
        "/admin/",
        "/admin/playground/",
        "/admin/agents/agenttask/*/change/",
        "/admin/django_celery_beat/periodictask/*/change/",
        "/admin/core/apikey/add/",
    } <= seen


def test_no_page_of_the_panel_does_what_its_policy_forbids(strict_page: Page, ollama: OllamaTestProcess) -> None:
    ollama.control(reset=True)
    strict_page.goto("/chat/")
    strict_page.get_by_label("Message").fill("Leave a conversation behind")
    strict_page.get_by_role("button", name="Send").click()
    expect(strict_page.get_by_role("button", name="Send")).to_be_enabled()
    violations = strict_page.evaluate("window.violations")
    for path in ("/dashboard", "/chat/", "/settings", "/notifications"):
        violations += visit(strict_page, path)
    strict_page.goto("/dashboard")
    strict_page.get_by_role("link", name="Leave a conversation behind").first.click()
    expect(strict_page.locator(".c-user .c-text")).to_have_text("Leave a conversation behind")
    violations += strict_page.evaluate("window.violations")
    assert violations == []


def test_the_theme_works_under_its_policy(strict_page: Page) -> None:
    """Alpine, which compiles its attributes, draws the menu and the dialogs."""
    strict_page.goto("/admin/agents/node/")
    assert strict_page.evaluate("typeof Alpine") == "object"
    assert strict_page.evaluate("window.violations") == []


def test_the_page_of_a_schedule_tells_its_crontab_in_words(strict_page: Page) -> None:
    strict_page.goto("/admin/django_celery_beat/periodictask/")
    strict_page.locator("#result_list a[href*='/change/']").first.click()
    strict_page.wait_for_load_state("load")
    choices = strict_page.locator("#id_crontab option").count()
    if choices > 1:
        strict_page.locator("#id_crontab").select_option(index=1)
        expect(strict_page.locator("#crontab-in-words")).to_contain_text("In words:")
    assert strict_page.evaluate("window.violations") == []


def test_the_pages_of_the_api_do_nothing_that_their_policy_forbids(strict_page: Page) -> None:
    violations = visit(strict_page, "/docs")
    expect(strict_page.locator("#swagger-ui .opblock").first).to_be_visible()
    strict_page.locator("#swagger-ui .opblock-summary").first.click()
    expect(strict_page.locator("#swagger-ui .opblock-body").first).to_be_visible()
    violations += strict_page.evaluate("window.violations")
    for path in (
        "/api/v1/",
        "/api/v1/agents/",
        "/api/v1/nodes/",
        "/api/v1/tasks/",
        "/api/v1/sessions/",
    ):
        violations += visit(strict_page, path)
    assert violations == []


def test_a_script_that_somebody_slips_into_a_page_does_not_run(strict_page: Page, complaints: list[str]) -> None:
    """The policy is in force, and the crawl would notice."""
    for path in ("/docs", "/admin/", "/settings"):
        strict_page.goto(path)
        strict_page.evaluate(
            "document.body.insertAdjacentHTML('beforeend', '<img src=data:, onerror=\"window.slipped = 1\">');"
            "const made = document.createElement('script'); made.textContent = 'window.slipped = 2';"
            "document.body.append(made)"
        )
        strict_page.wait_for_function("window.violations.length >= 2")
        assert strict_page.evaluate("window.slipped") is None
    complaints.clear()
