"""The audit log as an administrator reads it, in a real browser, against the real program."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.looks import CONSOLE, check
from tests.program import Program, wait_for

pytestmark = [pytest.mark.chromium, pytest.mark.usefixtures("a_change")]

LOG = "/admin/core/auditentry/"
BEFORE, AFTER = "Night shift", "Day shift"


@pytest.fixture
def a_change(page: Page) -> None:
    """A team that was given another name."""
    page.goto(f"/admin/core/team/?q={AFTER}")
    if page.locator("#result_list a", has_text=AFTER).count():
        return  # by an earlier test of this server
    page.goto("/admin/core/team/add/")
    page.get_by_label("Name").fill(BEFORE)
    page.get_by_label("Slug").fill("shift")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("link", name=BEFORE).first.click()
    page.get_by_label("Name").fill(AFTER)
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/admin/core/team/")


def rows(page: Page) -> list[str]:
    """What each row of the list says was done to what."""
    return [" ".join(row.split("\t")[:3]) for row in page.locator("#result_list tbody tr").all_inner_texts()]


def search(page: Page, text: str) -> None:
    page.goto(LOG)
    page.locator("#searchbar").fill(text)
    page.locator("#searchbar").press("Enter")
    page.wait_for_url("**/?q=*")


def check_now(page: Page, verdict: str) -> None:
    """Have a worker walk along the chain; its verdict stands where one is led, and on the log's own page then."""
    page.goto(LOG)
    page.get_by_role("button", name="Check now").click()
    page.wait_for_url("**/maintenancerun/")
    expect(page.locator("body")).to_contain_text("A worker does it")

    def is_told() -> bool:
        page.reload()
        newest = page.locator("#result_list tbody tr", has_text="verify_audit_log").all_inner_texts()[:1]
        return any(verdict in text for text in newest)

    wait_for(is_told, f"the check found: {verdict}")


def test_a_search_finds_what_was_done_to_a_name(page: Page) -> None:
    search(page, AFTER)
    assert rows(page) == [f"team.changed operator {AFTER}"]
    search(page, "Nobody's shift")
    expect(page.locator("#content")).to_contain_text("Nothing matches")


def test_filters_narrow_the_list_and_say_so_in_its_address(page: Page) -> None:
    page.goto(LOG)
    page.locator("a", has_text="Filters").click()
    page.get_by_label("kind").select_option(label="Team")
    page.get_by_label("Done").check()
    page.get_by_role("button", name="Apply Filters").click()
    page.wait_for_url("**/?*kind=team*")
    assert rows(page) == [f"team.changed operator {AFTER}", f"team.added operator {BEFORE}"]
    page.goto(f"{page.url}&created_at_to=2020-01-01")
    assert rows(page) == []


def test_an_entry_tells_who_changed_what_into_what(page: Page) -> None:
    search(page, AFTER)
    page.get_by_role("link", name="team.changed").click()
    page.wait_for_url("**/auditentry/*/change/**")
    expect(page.locator(".c-diff .c-removed")).to_have_text(BEFORE)
    expect(page.locator(".c-diff .c-added")).to_have_text(AFTER)
    facts = page.locator(".c-facts")
    for told in ("operator", "session", "127.0.0.1", "Place in the chain"):
        expect(facts).to_contain_text(told)
    page.get_by_role("link", name="All about this").click()
    page.wait_for_url("**/auditentry/?q=*")
    assert rows(page) == [f"team.changed operator {AFTER}", f"team.added operator {BEFORE}"]


def test_what_is_listed_is_taken_along_as_json_lines(page: Page, tmp_path: Path) -> None:
    search(page, AFTER)
    with page.expect_download() as taken:
        page.get_by_role("link", name="Export these").click()
    assert taken.value.suggested_filename.endswith(".jsonl")
    taken.value.save_as(tmp_path / "log")
    entry, end = (json.loads(line) for line in (tmp_path / "log").read_text().splitlines())
    assert (entry["action"], entry["changes"]) == ("team.changed", {"name": [BEFORE, AFTER]})
    assert end == {"exported": 1}
    search(page, "audit-log.exported")
    assert rows(page)[0].startswith("audit-log.exported operator")


def test_the_verdict_on_the_chain_is_told_good_or_bad(page: Page, program: Program) -> None:
    check_now(page, "sealed entries hold.")
    page.goto(LOG)
    expect(page.locator(".c-all-well")).to_contain_text("The chain is intact")

    with forged(program, "team.added"):
        check_now(page, "LogDamagedError: Entry")
        page.goto(LOG)
        expect(page.locator(".c-problem")).to_contain_text("The log does not hold")
        expect(page.locator(".c-problem")).to_contain_text("altered, or put in place of entries that were removed")

    check_now(page, "sealed entries hold.")
    page.goto(LOG)
    expect(page.locator(".c-all-well")).to_contain_text("The chain is intact")


@contextmanager
def forged(program: Program, action: str) -> Iterator[None]:
    """Let somebody who can write the database say that another person did it."""
    with closing(sqlite3.connect(program.data_dir / "db.sqlite3", timeout=20)) as database:
        for trigger in ("audit_sealed_entries_stay", "audit_content_stays"):
            database.execute(f"DROP TRIGGER {trigger}")
        for name in ("somebody else", "operator"):
            database.execute("UPDATE core_auditentry SET actor_name = ? WHERE action = ?", (name, action))
            database.commit()
            if name != "operator":
                yield


def test_the_pages_fit_and_can_be_used_by_everybody(page: Page) -> None:
    search(page, AFTER)
    entry = page.get_by_role("link", name="team.changed").get_attribute("href") or ""
    for path in (LOG, entry):
        page.goto(path)
        check(page, part=CONSOLE)
