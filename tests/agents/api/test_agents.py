import pytest

from agents.models import Agent, AgentTask, AgentVersion
from core.models import Role
from tests.api import ApiClient, assert_problem, counting_queries
from tests.factories import make_agent, make_task

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

PATH = "/api/v1/agents/"


@pytest.fixture
def agent(operator):
    return make_agent(operator.user, name="clerk")


def test_an_agent_is_made_with_its_first_version_live(operator, builtin, owner):
    body = {
        "name": "clerk",
        "kind": "chat",
        "description": "Files things.",
        "version": {"system_prompt": "You file things.", "options": {"temperature": 0.2}, "deadline_seconds": 60},
    }
    response = operator.post(PATH, body)
    assert response.status_code == 201
    shown = response.json()
    assert response["Location"] == f"{PATH}{shown['id']}/"
    assert (shown["name"], shown["kind"], shown["live_version"], shown["is_enabled"]) == ("clerk", "chat", 1, True)
    version = operator.get(f"{PATH}{shown['id']}/versions/1/").json()
    assert version["is_live"] is True
    assert version["system_prompt"] == "You file things."
    assert version["options"] == {"temperature": 0.2}
    assert version["created_by"] == "operator"
    task = owner.post("/api/v1/tasks/", {"agent": "clerk", "input": {"message": "Hello"}})
    assert task.status_code == 202


def test_every_field_of_a_version_has_a_default(operator):
    assert operator.post(PATH, {"name": "clerk", "kind": "text_analysis"}).status_code == 201
    assert Agent.objects.get().live_version.number == 1


def test_an_agent_is_described_and_disabled(operator, agent):
    shown = operator.patch(f"{PATH}{agent.pk}", {"description": "Rests.", "is_enabled": False}).json()
    assert (shown["description"], shown["is_enabled"]) == ("Rests.", False)
    agent.refresh_from_db()
    assert (agent.description, agent.is_enabled) == ("Rests.", False)


def test_a_new_version_goes_live_only_when_told(operator, agent, builtin):
    response = operator.post(f"{PATH}{agent.pk}/versions/", {"note": "Shorter.", "max_output_tokens": 100})
    assert response.status_code == 201
    assert response["Location"] == f"{PATH}{agent.pk}/versions/2/"
    assert response.json()["is_live"] is False
    assert operator.get(f"{PATH}{agent.pk}/").json()["live_version"] == 1
    old_task = make_task(operator.user, agent)
    for _ in range(2):  # doing it twice changes nothing
        assert operator.post(f"{PATH}{agent.pk}/versions/2/make-live").json()["is_live"] is True
    agent.refresh_from_db()
    assert agent.live_version.number == 2
    assert AgentTask.objects.get(pk=old_task.pk).version.number == 1


def test_going_back_is_making_an_old_version_live(operator, agent):
    agent.make_live(agent.add_version(created_by=operator.user))
    operator.post(f"{PATH}{agent.pk}/versions/1/make-live/")
    agent.refresh_from_db()
    assert agent.live_version.number == 1
    numbers = [row["number"] for row in operator.get(f"{PATH}{agent.pk}/versions/").json()["results"]]
    assert numbers == [2, 1]


def test_a_repeated_version_is_written_once(operator, agent):
    path = f"{PATH}{agent.pk}/versions/"
    first = operator.post(path, {"note": "n"}, Idempotency_Key="v")
    again = operator.post(path, {"note": "n"}, Idempotency_Key="v")
    assert first.json() == again.json()
    assert agent.versions.count() == 2


def test_versions_never_change(operator, agent):
    assert operator.patch(f"{PATH}{agent.pk}/versions/1/", {"note": "x"}).status_code == 405
    assert operator.delete(f"{PATH}{agent.pk}/versions/1/").status_code == 405


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "two words"}, "name"),
        ({"name": "x" * 61}, "name"),
        ({"name": 5}, "name"),
        ({"name": "nul\x00"}, "name"),
        ({"kind": "magic"}, "kind"),
        ({"is_enabled": "yes"}, "is_enabled"),
        ({"is_enabled": None}, "is_enabled"),
        ({"owner": "me"}, "owner"),
        ({"live_version": 3}, "live_version"),
        ({"version": []}, "version"),
        ({"version": {"number": 7}}, "version.number"),
        ({"version": {"model": "x" * 201}}, "version.model"),
        ({"version": {"system_prompt": "x" * 50_001}}, "version.system_prompt"),
        ({"version": {"system_prompt": "a\x00b"}}, "version.system_prompt"),
        ({"version": {"deadline_seconds": 0}}, "version.deadline_seconds"),
        ({"version": {"deadline_seconds": 10**18}}, "version.deadline_seconds"),
        ({"version": {"deadline_seconds": 1.5}}, "version.deadline_seconds"),
        ({"version": {"deadline_seconds": True}}, "version.deadline_seconds"),
        ({"version": {"max_output_tokens": -1}}, "version.max_output_tokens"),
        ({"version": {"truncation": "sometimes"}}, "version.truncation"),
        ({"version": {"options": "hot"}}, "version.options"),
        ({"version": {"options": {"temperature": None}}}, "version.options"),
        ({"version": {"options": {"stop": ["a\x00"]}}}, "version.options"),
        ({"version": {"options": {"num_ctx": 0}}}, "version.options"),
        ({"version": {"options": {"num_ctx": 1.5}}}, "version.options"),
        ({"version": {"options": {str(number): 1 for number in range(51)}}}, "version.options"),
    ],
)
def test_input_of_the_wrong_shape_names_its_field(operator, body, field):
    whole = {"kind": "chat", **({} if "name" in body or not body else {"name": "clerk"}), **body}
    problem = assert_problem(operator.post(PATH, whole), 422, "invalid-input")
    assert list(problem["errors"]) == [field]
    assert not Agent.objects.exists()
    assert not AgentVersion.objects.exists()


@pytest.mark.parametrize("body", [{"name": "other"}, {"kind": "chat"}, {"is_enabled": 0}, {"description": "x" * 301}])
def test_a_change_of_the_wrong_shape_changes_nothing(operator, agent, body):
    assert_problem(operator.patch(f"{PATH}{agent.pk}/", body), 422, "invalid-input")
    agent.refresh_from_db()
    assert (agent.name, agent.is_enabled, agent.description) == ("clerk", True, "")


def test_a_name_is_given_once_in_a_team(operator, agent, stranger):
    problem = assert_problem(operator.post(PATH, {"name": "clerk", "kind": "chat"}), 422, "invalid-input")
    assert list(problem["errors"]) == ["name"]
    stranger.user.role = Role.OPERATOR
    stranger.user.save()
    assert stranger.post(PATH, {"name": "clerk", "kind": "chat"}).status_code == 201


@pytest.mark.parametrize("number", ["0", "99", "999999999", "9999999999", "x", "-1"])
def test_a_version_that_does_not_exist_is_not_found(operator, agent, number):
    assert_problem(operator.get(f"{PATH}{agent.pk}/versions/{number}/"), 404, "not-found")
    assert_problem(operator.post(f"{PATH}{agent.pk}/versions/{number}/make-live/"), 404, "not-found")


@pytest.mark.parametrize("agent_id", ["x", "0", "00000000-0000-0000-0000-000000000000", "%00"])
def test_an_agent_that_does_not_exist_is_not_found(operator, agent_id):
    assert_problem(operator.get(f"{PATH}{agent_id}/"), 404, "not-found")
    assert_problem(operator.get(f"{PATH}{agent_id}/versions/"), 404, "not-found")
    assert_problem(operator.post(f"{PATH}{agent_id}/versions/", {}), 404, "not-found")


# Three people


@pytest.mark.parametrize("person", ["owner", "colleague"])
def test_the_team_sees_an_agent_and_changes_nothing(agent, person, request):
    client = request.getfixturevalue(person)
    assert [row["name"] for row in client.get(PATH).json()["results"]] == ["clerk"]
    for path in (f"{PATH}{agent.pk}/", f"{PATH}{agent.pk}/versions/", f"{PATH}{agent.pk}/versions/1/"):
        assert client.get(path).status_code == 200
    assert_problem(client.post(PATH, {"name": "mine", "kind": "chat"}), 403, "not-permitted")
    assert_problem(client.patch(f"{PATH}{agent.pk}/", {"is_enabled": False}), 403, "not-permitted")
    assert_problem(client.post(f"{PATH}{agent.pk}/versions/", {}), 403, "not-permitted")
    assert_problem(client.post(f"{PATH}{agent.pk}/versions/1/make-live/"), 403, "not-permitted")
    assert Agent.objects.get().is_enabled
    assert agent.versions.count() == 1


def test_for_another_team_an_agent_does_not_exist(stranger, agent):
    assert stranger.get(PATH).json()["results"] == []
    for path in (f"{PATH}{agent.pk}/", f"{PATH}{agent.pk}/versions/", f"{PATH}{agent.pk}/versions/1/"):
        assert_problem(stranger.get(path), 404, "not-found")


def test_without_credentials_nothing_is_told(agent):
    assert_problem(ApiClient().get(PATH), 401, "not-authenticated")
    assert_problem(ApiClient().post(PATH, {"name": "mine", "kind": "chat"}), 401, "not-authenticated")


def test_lists_cost_the_same_for_many_rows(operator, agent, django_assert_num_queries):
    for _ in range(5):
        make_agent(operator.user)
        agent.add_version(created_by=operator.user)
    operator.get(PATH)
    for path, rows in ((PATH, 6), (f"{PATH}{agent.pk}/versions/", 6)):
        with django_assert_num_queries(counting_queries() + (1 if path == PATH else 2)):
            assert len(operator.get(f"{path}?search=").json()["results"]) == rows
