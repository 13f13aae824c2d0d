"""Take the console's pictures: `python -m tests.browser.screenshots [--all FOLDER]`.

Without arguments it writes the pictures of the documentation. --all writes every page to another folder, at 1440 and
390 pixels, light and dark, for looking at.
"""

import argparse
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, StorageState

from tests.browser.browser import chromium, program_for, sign_in
from tests.ollama_server import OllamaTestProcess
from tests.program import ROOT, Program
from tests.services import packages

IMAGES = ROOT / "docs" / "images"
PAGES = {
    "dashboard": "",
    "playground": "playground/",
    "tasks": "agents/agenttask/",
    "queue": "queue/",
    "tasks-failed": "agents/agenttask/?status__exact=failed",
    "tasks-none": "agents/agenttask/?q=nobody",
    "sessions": "agents/chatsession/",
    "agents": "agents/agent/",
    "agent-new": "agents/agent/add/",
    "nodes": "agents/node/",
    "node-new": "agents/node/add/",
    "models": "agents/nodemodel/",
    "breakers": "core/circuitbreaker/",
    "breakers-none": "core/circuitbreaker/?q=nobody",
    "users": "core/user/",
    "groups": "auth/group/",
    "teams": "core/team/",
    "invitations": "core/invitation/",
    "invitation-new": "core/invitation/add/",
    "devices": "core/device/",
    "api-keys": "core/apikey/",
    "api-key-new": "core/apikey/add/",
    "audit": "core/auditentry/",
    "audit-none": "core/auditentry/?q=nobody",
    "limits": "core/allowance/",
    "runs": "core/maintenancerun/",
    "slow-queries": "core/slowquery/",
    "slow-queries-none": "core/slowquery/?q=nobody",
    "alerts": "core/alert/",
    "alerts-none": "core/alert/?q=nobody",
    "alerts-watched": "alerts/",
    "health": "health/",
    "pools": "pools/",
    "workers": "workers/",
    "backups": "core/backup/",
    "webhooks": "core/webhook/",
    "webhook-new": "core/webhook/add/",
    "webhook-deliveries": "core/webhookdelivery/",
    "schedules": "django_celery_beat/periodictask/",
    "cache": "cache/",
}
# The first row of a list leads to the page.
ROWS = {
    "task": "agents/agenttask/",
    "task-failed": "agents/agenttask/?status__exact=failed",
    "session": "agents/chatsession/",
    "agent": "agents/agent/?q=helper",
    "node": "agents/node/?q=ollama",
    "node-down": "agents/node/?q=gpu2",
    "model": "agents/nodemodel/",
    "breaker": "core/circuitbreaker/?q=ollama",
    "breaker-open": "core/circuitbreaker/?q=gpu2",
    "user": "core/user/?q=ada",
    "api-key": "core/apikey/",
    "audit-change": "core/auditentry/?q=node.changed",
    "audit-denial": "core/auditentry/?outcome__exact=refused",
    "schedule": "django_celery_beat/periodictask/",
    "run": "core/maintenancerun/?status__exact=succeeded",
    "run-failed": "core/maintenancerun/?status__exact=failed",
    "slow-query": "core/slowquery/",
    "alert": "core/alert/",
    "webhook": "core/webhook/?q=ops",
    "webhook-failing": "core/webhook/?q=home",
    "webhook-delivery": "core/webhookdelivery/",
}
# Everybody's own pages, and pages before any.
OWN = {
    "own-dashboard": "/dashboard",
    "chat": "/chat",
    "settings": "/settings",
    "account": "/account/",
    "password-change": "/account/password/change/",
    "second-factor": "/account/second-factor/",
    "app-new": "/account/second-factor/totp/activate/",
    "passkeys": "/account/second-factor/webauthn/",
    "passkey-new": "/account/second-factor/webauthn/add/",
    "confirm": "/account/confirm/",
    "sign-out": "/logout",
}
STRANGERS = {
    "sign-in": "/login",
    "invitation-gone": "/account/invitation/",
    "sign-up-closed": "/account/sign-up/",
    "switched-off": "/account/inactive/",
}
QUESTION = "How do I add an Ollama node, and what happens to its tasks when I drain it?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="write every page to this folder")
    folder = parser.parse_args().all
    with (
        tempfile.TemporaryDirectory(prefix="sutazai-screenshots-") as data,
        OllamaTestProcess("--model", "tinyllama", "--model", "llama3.2") as ollama,
        program_for(Path(data), ollama) as program,
        chromium(str(packages.program("usr/bin/chromium"))) as browser,
    ):
        program.run("tests.browser.seed")
        state = _prepare(browser, program)
        if folder:
            _take_all(browser, program, state, folder)
        else:
            _take_documentation(browser, program, state)


def _prepare(browser: Browser, program: Program) -> StorageState:
    """Sign in, and do what leaves something to see: a conversation, a key, a refusal, a change, housekeeping."""
    with browser.new_context(base_url=program.url) as context:
        page = context.new_page()
        sign_in(page)
        _converse(page)
        page.goto("/admin/core/apikey/add/")
        page.locator("#id_name").fill("nightly reports")
        page.locator("[name=_save]").click()
        for _ in range(3):
            page.request.get("/api/v1/agents/", headers={"Authorization": "Bearer stz_0123456789ab_wrong"})
        page.goto("/admin/agents/node/?q=ollama")
        page.locator("#result_list a[href*='/change/']").first.click()
        page.locator("#id_slots").fill("6")
        page.locator("[name=_save]").click()
        page.goto("/admin/core/auditentry/")
        page.get_by_role("button", name="Check now").click()
        page.goto("/admin/core/maintenancerun/")
        page.locator("form[action*='/run/'] button:not([name])").first.click()
        page.wait_for_load_state()
        return context.storage_state()


def _converse(page: Page) -> None:
    """Talk with an agent that quotes the handbook; the test server's model would only echo."""
    page.goto("/admin/playground/?agent=guide")
    page.get_by_label("Message").fill(QUESTION)
    page.get_by_role("button", name="Send").click()
    page.wait_for_selector(".c-assistant footer .c-badge")


def _take_documentation(browser: Browser, program: Program, state: StorageState) -> None:
    IMAGES.mkdir(exist_ok=True)
    with browser.new_context(
        base_url=program.url, storage_state=state, viewport={"width": 1280, "height": 1000}, color_scheme="light"
    ) as context:
        page = context.new_page()
        _open(page, "")
        page.screenshot(path=IMAGES / "console.png")
        _converse(page)
        page.screenshot(path=IMAGES / "playground.png")
        page.locator(".c-assistant footer a").last.click()
        page.wait_for_selector(".c-phases")
        page.screenshot(path=IMAGES / "task.png")


def _take_all(browser: Browser, program: Program, state: StorageState, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for width, height in ((1440, 900), (390, 844)):
        for scheme in ("light", "dark"):
            with browser.new_context(
                base_url=program.url,
                storage_state=state,
                viewport={"width": width, "height": height},
                color_scheme=scheme,
            ) as context:
                page = context.new_page()
                for name, path in (PAGES | _rows(page)).items():
                    _open(page, path)
                    page.screenshot(path=folder / f"{name}-{width}-{scheme}.png", full_page=True)
                invitation = _invite(page)
                for name, path in OWN.items():
                    _photograph(page, path, folder / f"{name}-{width}-{scheme}.png")
                context.clear_cookies()
                for name, path in ({"invited": invitation} | STRANGERS).items():
                    _photograph(page, path, folder / f"{name}-{width}-{scheme}.png")


def _invite(page: Page) -> str:
    """Make an invitation for somebody new; returns its link."""
    page.goto("/admin/core/invitation/add/")
    page.locator("[name=_save]").click()
    return page.locator("#invitation-link").inner_text()


def _photograph(page: Page, address: str, file: Path) -> None:
    page.goto(address)
    _settle(page)
    page.screenshot(path=file, full_page=True)


def _rows(page: Page) -> dict[str, str]:
    """The addresses of the pages behind the first rows of lists."""
    found = {}
    for name, path in ROWS.items():
        _open(page, path)
        link = page.locator("#result_list a[href*='/change/']").first
        found[name] = (link.get_attribute("href") or "").removeprefix("/admin/")
    versions = found["agent"].split("/change/")[0] + "/versions"
    return {**found, "version": f"{versions}/2/", "version-new": f"{versions}/new/"}


def _open(page: Page, path: str) -> None:
    page.goto(f"/admin/{path}")
    _settle(page)


def _settle(page: Page) -> None:
    page.wait_for_load_state("networkidle")
    page.evaluate("document.fonts.ready")


if __name__ == "__main__":
    main()
