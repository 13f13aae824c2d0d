"""The page of pools, and what the dashboard says of full ones."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from core.admin import pools
from core.ops import pool_use
from core.ops.pool_use import GroupUse, PoolUse, ProcessUse
from tests.factories import make_staff

Say = Callable[..., None]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Say:
    """Have the group's processes use their pools as the test says."""

    def say(*used: PoolUse) -> None:
        monkeypatch.setattr(pool_use, "of_the_group", lambda: GroupUse(1234, 5678, 90, 1, list(used)))

    return say


def use(limit: int, in_use: int, waiting: int = 0) -> list[ProcessUse]:
    return [ProcessUse("worker", 4711, limit, in_use, waiting, in_use / limit)]


def test_it_shows_every_pool_and_what_to_do_when_it_is_full(console: Client, say: Say) -> None:
    say(*(PoolUse(name, 1, 2, use(30, 3)) for name in pool_use.NAMES))

    page = console.get(reverse("console-pools")).text

    for name in pool_use.NAMES:
        about = pools.ABOUT[name]
        assert about.title in page
        assert about.setting in page
    assert page.count("3 of 30") >= len(pool_use.NAMES)
    assert "worker (4711)" in page
    assert "5,678" in page
    assert "2 waits and 1 connection error so far." in page


@pytest.mark.parametrize(
    ("used", "state"),
    [
        (use(10, 8), "Free"),
        (use(10, 9), "Nearly full"),
        (use(10, 10), "Full"),
        (use(10, 10, waiting=3), "Full"),
    ],
)
def test_each_process_has_a_state(console: Client, say: Say, used: list[ProcessUse], state: str) -> None:
    say(PoolUse("database", 0, 0, used))

    assert f">{state}<" in console.get(reverse("console-pools")).text


def test_before_anybody_told_anything_it_says_so(console: Client, say: Say) -> None:
    say()

    assert "No process has told of its pools yet" in console.get(reverse("console-pools")).text


def test_it_needs_a_permission(clerk: Client) -> None:
    assert clerk.get(reverse("console-pools")).status_code == 403
    assert Client().get(reverse("console-pools")).status_code == 302
    allowed = Client()
    allowed.force_login(make_staff("view_maintenancerun", username="allowed"))
    assert allowed.get(reverse("console-pools")).status_code == 200


def test_the_dashboard_tells_of_full_pools_alone(say: Say) -> None:
    say(PoolUse("ollama", 0, 0, use(10, 8)))
    assert pools.problems().problems == []

    say(PoolUse("ollama", 0, 0, use(10, 9)), PoolUse("redis", 0, 5, use(10, 10, waiting=2)))
    nearly, full = pools.problems().problems
    assert (nearly.level, full.level) == ("warning", "bad")
    assert "Model servers" in nearly.title
    assert full.title.endswith("worker (4711) is full")
    assert full.url == reverse("console-pools")
