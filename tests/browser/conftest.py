"""A running program, and a browser in front of it that complains about everything it should not see."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from tests.browser.browser import chromium, sign_in
from tests.browser.stack import Stack
from tests.services import SERVICE_VARIABLES

TIMEOUT_MILLISECONDS = 20_000
expect.set_options(timeout=TIMEOUT_MILLISECONDS)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Web, worker, beat and an Ollama test server with one model."""
    folder: Path = tmp_path_factory.mktemp("program")
    with Stack(folder, "tinyllama") as running:
        yield running


@pytest.fixture
def calm_model(stack: Stack) -> None:
    """The model answers at once, unless a test says otherwise."""
    stack.ollama.control(reset=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(os.environ[SERVICE_VARIABLES["chromium"]]) as running:
        yield running


@pytest.fixture(scope="module")
def session_cookie(stack: Stack, browser: Browser) -> StorageState:
    """What a browser keeps after the operator signed in."""
    complaints: list[str] = []
    with browser.new_context(base_url=stack.url) as context:
        page = context.new_page()
        watch(page, stack.url, complaints)
        sign_in(page)
        assert complaints == []
        return context.storage_state()


def watch(page: Page, url: str, complaints: list[str]) -> None:
    """Write down the errors of a page, and its requests to anywhere else."""
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: request.url.startswith(url) or complaints.append(request.url))


@pytest.fixture
def complaints() -> list[str]:
    """Errors of pages, and requests to anywhere else; a test ends with none."""
    return []


@pytest.fixture
def page(stack: Stack, browser: Browser, session_cookie: StorageState, complaints: list[str]) -> Iterator[Page]:
    """A page of an operator who is signed in."""
    with browser.new_context(base_url=stack.url, storage_state=session_cookie) as context:
        context.set_default_timeout(TIMEOUT_MILLISECONDS)
        page = context.new_page()
        watch(page, stack.url, complaints)
        yield page
    assert complaints == []
