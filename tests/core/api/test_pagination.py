from itertools import chain

import pytest
from django.core import signing

from core.models import uuid7
from tests.api import ApiClient, assert_problem
from tests.factories import make_agent, make_builtin_node, make_session, make_task, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

PATH = "/api/v1/sessions/"


@pytest.fixture
def owner():
    return make_user()


@pytest.fixture
def sessions(owner):
    """Seven sessions, the newest first."""
    agent = make_agent(owner)
    made = [make_session(owner, agent, title=f"Session {number}") for number in range(7)]
    return [str(session.pk) for session in reversed(made)]


def ids(page):
    return [row["id"] for row in page["results"]]


def walk(client, path, direction):
    pages = []
    while path:
        page = client.get(path).json()
        pages.append(ids(page))
        path = page[direction]
    return pages


def test_pages_go_from_the_newest_to_the_oldest(owner, sessions):
    pages = walk(ApiClient(owner), f"{PATH}?page_size=3", "next")
    assert pages == [sessions[:3], sessions[3:6], sessions[6:]]


def test_the_way_back_shows_the_same_pages(owner, sessions):
    client = ApiClient(owner)
    second = client.get(client.get(f"{PATH}?page_size=3").json()["next"]).json()
    third = client.get(second["next"]).json()
    assert third["next"] is None
    assert ids(client.get(third["previous"]).json()) == sessions[3:6]
    first = client.get(second["previous"]).json()
    assert ids(first) == sessions[:3]
    assert first["previous"] is None
    assert ids(client.get(first["next"]).json()) == sessions[3:6]


def test_a_browser_sees_links_to_both_sides(owner, sessions):
    client = ApiClient(owner)
    second = client.get(f"{PATH}?page_size=3").json()["next"]
    page = client.get(second, Accept="text/html").content.decode()
    assert page.count("cursor=") >= 2
    assert "Previous" in page
    assert "Next" in page


def test_new_rows_shift_nothing(owner, sessions):
    client = ApiClient(owner)
    first = client.get(f"{PATH}?page_size=3").json()
    newer = make_session(owner)
    second = client.get(first["next"]).json()
    assert ids(second) == sessions[3:6]
    back = client.get(second["previous"]).json()
    assert ids(back) == sessions[:3]
    assert ids(client.get(back["previous"]).json()) == [str(newer.pk)]


def test_a_page_has_25_rows_and_100_at_most(owner):
    agent = make_agent(owner)
    for _ in range(101):
        make_session(owner, agent)
    client = ApiClient(owner)
    assert len(client.get(PATH).json()["results"]) == 25
    page = client.get(f"{PATH}?page_size=5000").json()
    assert len(page["results"]) == 100
    assert page["next"]


@pytest.mark.parametrize("size", ["0", "-1", "ten", "", "1.5", "9" * 5000, "٣", "%00"])
def test_a_page_size_that_is_none_is_refused(owner, size):
    problem = assert_problem(ApiClient(owner).get(f"{PATH}?page_size={size}"), 400, "invalid-query")
    assert list(problem["errors"]) == ["page_size"]


@pytest.mark.parametrize(
    "cursor", ["", "nonsense", "bz0xJnA9MTIz", "%00", "a:b", "a:b:c", "%ed%a0%80:x:y", "a" * 5000]
)
def test_a_made_up_cursor_is_refused(owner, cursor):
    problem = assert_problem(ApiClient(owner).get(f"{PATH}?cursor={cursor}"), 400, "invalid-query")
    assert list(problem["errors"]) == ["cursor"]


def test_a_cursor_that_was_changed_is_refused(owner, sessions):
    client = ApiClient(owner)
    link = client.get(f"{PATH}?page_size=3").json()["next"]
    start = link.index("cursor=") + len("cursor=")
    for place in (start, start + 10, link.index("%3A", start) + 6):
        changed = link[:place] + ("A" if link[place] != "A" else "B") + link[place + 1 :]
        assert_problem(client.get(changed), 400, "invalid-query")


def test_a_cursor_of_another_list_is_refused(owner, sessions):
    client = ApiClient(owner)
    cursor = client.get(f"{PATH}?page_size=3").json()["next"].split("cursor=")[1].split("&")[0]
    assert_problem(client.get(f"/api/v1/tasks/?cursor={cursor}"), 400, "invalid-query")


def test_a_cursor_signed_for_something_else_is_refused(owner):
    content = {"order": ["-id"], "at": [str(uuid7())], "backward": False}
    cursor = signing.dumps(content, salt="something else")
    assert_problem(ApiClient(owner).get(f"{PATH}?cursor={cursor}"), 400, "invalid-query")


def test_a_cursor_of_another_order_is_refused(owner, sessions):
    client = ApiClient(owner)
    link = client.get(f"{PATH}?page_size=3&ordering=created_at").json()["next"]
    assert_problem(client.get(link.replace("ordering=created_at", "ordering=-created_at")), 400, "invalid-query")


def test_a_cursor_shows_a_stranger_nothing(owner, sessions):
    link = ApiClient(owner).get(f"{PATH}?page_size=3").json()["next"]
    assert ApiClient(make_user()).get(link).json()["results"] == []


def test_rows_with_the_same_value_are_neither_lost_nor_doubled(owner):
    agent = make_agent(owner)
    first = make_session(owner, agent)
    same = [make_session(owner, agent, last_active_at=first.last_active_at) for _ in range(6)]
    pages = walk(ApiClient(owner), f"{PATH}?page_size=2&ordering=last_active_at", "next")
    assert list(chain(*pages)) == [str(row.pk) for row in (first, *same)]
    pages = walk(ApiClient(owner), f"{PATH}?page_size=2&ordering=-last_active_at", "next")
    assert list(chain(*pages)) == [str(row.pk) for row in reversed((first, *same))]


def test_a_page_keeps_its_filters(owner):
    make_builtin_node()
    agent, other = make_agent(owner), make_agent(owner)
    tasks = [make_task(owner, agent if number % 2 else other) for number in range(6)]
    client = ApiClient(owner)
    pages = walk(client, f"/api/v1/tasks/?agent={agent.name}&page_size=2", "next")
    assert pages == [[str(tasks[5].pk), str(tasks[3].pk)], [str(tasks[1].pk)]]
