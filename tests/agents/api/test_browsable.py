"""The API in a browser, signed in as in the console."""

import pytest
from django.test import Client

from tests.factories import make_agent, make_builtin_node, make_operator, make_session, make_task, make_user

pytestmark = pytest.mark.django_db

HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
def paths():
    node, person = make_builtin_node(), make_operator()
    agent = make_agent(person)
    session = make_session(person, agent)
    task = make_task(person, agent, session=session)
    return [
        "",
        "agents/",
        f"agents/{agent.pk}/",
        f"agents/{agent.pk}/versions/",
        f"agents/{agent.pk}/versions/1/",
        f"agents/{agent.pk}/versions/1/make-live/",
        "nodes/",
        f"nodes/{node.pk}/",
        f"nodes/{node.pk}/models/",
        f"nodes/{node.pk}/probe/",
        "sessions/",
        f"sessions/{session.pk}/",
        f"sessions/{session.pk}/messages/",
        f"sessions/{session.pk}/close/",
        "tasks/",
        f"tasks/{task.pk}/",
        f"tasks/{task.pk}/events/",
        f"tasks/{task.pk}/receipt/",
        f"tasks/{task.pk}/cancel/",
        f"tasks/{task.pk}/retry/",
        "chat/",
    ]


@pytest.mark.parametrize("make_person", [make_operator, make_user])
def test_every_address_has_a_page(paths, make_person):
    client = Client()
    client.force_login(make_person())
    for path in paths:
        response = client.get(f"/api/v1/{path}", headers=HTML)
        assert response.status_code in {200, 403, 404, 405}, path
        assert response["Content-Type"].startswith("text/html"), path


def test_an_operator_sees_every_list_and_the_forms_to_add_to_them(paths):
    client = Client()
    client.force_login(make_operator())
    for path in ("agents/", "nodes/", "sessions/", "tasks/"):
        response = client.get(f"/api/v1/{path}?page_size=1", headers=HTML)
        assert response.status_code == 200
        assert b'name="_content"' in response.content, path
    assert b'name="_content"' in client.get("/api/v1/chat/", headers=HTML).content


def test_every_path_answers_without_its_slash_too(paths):
    client = Client()
    client.force_login(make_operator())
    for path in paths:
        with_slash = client.get(f"/api/v1/{path}", headers={"Accept": "application/json"})
        without = client.get(f"/api/v1/{path}".rstrip("/"), headers={"Accept": "application/json"})
        assert without.status_code == with_slash.status_code < 500, path
        assert without.status_code not in {301, 302}, path


@pytest.mark.parametrize("method", ["options", "head"])
def test_every_address_tells_what_it_takes(paths, method):
    client = Client()
    client.force_login(make_operator())
    for path in paths:
        response = getattr(client, method)(f"/api/v1/{path}")
        assert response.status_code in {200, 404, 405}, path
        assert "Allow" in response
