"""A running program, and a browser in front of it that complains about everything it should not see."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from tests.browser.browser import chromium, program_for, sign_in
from tests.ollama_server import OllamaTestProcess
from tests.program import Program
from tests.services import SERVICE_VARIABLES

TIMEOUT_MILLISECONDS = 60_000
expect.set_options(timeout=TIMEOUT_MILLISECONDS)


@pytest.fixture(scope="module")
def ollama() -> Iterator[OllamaTestProcess]:
    """The model server behind the program, with one model."""
    with OllamaTestProcess("--model", "tinyllama") as running:
        yield running


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, ollama: OllamaTestProcess) -> Iterator[Program]:
    with program_for(tmp_path_factory.mktemp("program"), ollama) as running:
        yield running


@pytest.fixture
def calm_model(ollama: OllamaTestProcess) -> None:
    """The model answers at once, unless a test says otherwise."""
    ollama.control(reset=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(os.environ[SERVICE_VARIABLES["chromium"]]) as running:
        yield running


@pytest.fixture(scope="module")
def session_cookie(program: Program, browser: Browser) -> StorageState:
    """What a browser keeps after the operator signed in."""
    complaints: list[str] = []
    with browser.new_context(base_url=program.url) as context:
        page = context.new_page()
        watch(page, program.url, complaints)
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
def page(program: Program, browser: Browser, session_cookie: StorageState, complaints: list[str]) -> Iterator[Page]:
    """A page of an operator who is signed in."""
    with browser.new_context(base_url=program.url, storage_state=session_cookie) as context:
        context.set_default_timeout(TIMEOUT_MILLISECONDS)
        page = context.new_page()
        watch(page, program.url, complaints)
        yield page
    assert complaints == []
