"""Talking with an agent on a page: in the console's playground and in the chat."""

from playwright.sync_api import Page

from tests.ollama_server import OllamaTestProcess


def pace(ollama: OllamaTestProcess, knobs: str) -> None:
    """Set the pace of the model's answers, such as "t100-d50": 100 tokens, 50 ms between two."""
    ollama.control(faults=[{"knobs": knobs, "path": "/api/chat", "times": 1000}])


def ask(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def last_answer(page: Page) -> str:
    return page.locator(".c-assistant .c-text").last.inner_text()
