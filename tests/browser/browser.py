"""Debian's Chromium, driven by playwright, which phones nobody, and what it looks at."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.ollama_server import OllamaTestProcess
from tests.program import Program

PASSWORD = "browser-test-only"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def program_for(folder: Path, ollama: OllamaTestProcess, **settings: str) -> Program:
    """The program with this model server behind it, and an operator who can sign in."""
    return Program(folder, OLLAMA_HOST=ollama.url, SUTAZAI_OPERATOR_PASSWORD=PASSWORD, **settings)


@contextmanager
def chromium(executable_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable_path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def sign_in(page: Page) -> None:
    """Sign the operator in and wait for the dashboard."""
    page.goto("/admin/")
    page.get_by_label("Username or email").fill("operator")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_selector("#figures .c-figure")
