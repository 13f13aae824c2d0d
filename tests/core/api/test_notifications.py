import uuid

import pytest
from django.test import Client
from django.utils import timezone

from core.access import api_keys, tokens
from core.models import AuditEntry, NotificationPreference, Role, Verb
from core.notifications import Event, News, events, inbox, notify
from tests.api import ApiClient, assert_problem, counting_queries
from tests.factories import make_notification, make_operator, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

PATH = "/api/notifications/"
PREFERENCES = f"{PATH}preferences/"


@pytest.fixture
def event(monkeypatch):
    event = Event("kettle-boiled", "Kettle", "The kettle boiled.")
    monkeypatch.setitem(events._events, event.name, event)
    return event


@pytest.fixture
def person():
    return make_user(username="ada")


@pytest.fixture
def client(person):
    return ApiClient(person)


@pytest.fixture
def signed_in(person):
    """A person's app that signed in with a password."""
    access = tokens.begin(person).access
    return Client(headers={"Authorization": f"Bearer {access}"})


def titles(response):
    assert response.status_code == 200, response.content
    return [row["title"] for row in response.json()["results"]]


def test_ones_own_are_listed_the_newest_first_with_all_that_one_may_know(client, person):
    make_notification(person, "first")
    told = make_notification(person, "second", body="At noon.")
    make_notification(make_user(), "another's")
    response = client.get(PATH)
    assert titles(response) == ["second", "first"]
    assert response.json()["results"][0] == {
        "id": str(told.pk),
        "event": "new-sign-in",
        "title": "second",
        "body": "At noon.",
        "link": "/account/",
        "count": 1,
        "created_at": told.created_at.isoformat().replace("+00:00", "Z"),
        "read_at": None,
    }


def test_operators_see_their_own_too_and_no_others(person):
    operator = make_operator()
    told = make_notification(person)
    client = ApiClient(operator)
    assert titles(client.get(PATH)) == []
    assert_problem(client.post(f"{PATH}{told.pk}/read/"), 404, "not-found")


def test_what_was_sent_by_email_alone_is_not_listed(client, person):
    told = make_notification(person, in_app=False)
    assert titles(client.get(PATH)) == []
    assert client.post(f"{PATH}{told.pk}/read/").status_code == 404
    assert client.get(f"{PATH}unread-count/").json() == {"unread": 0}


def test_lists_are_filtered_searched_and_paged(client, person):
    for title in ("one", "two", "three"):
        told = make_notification(person, title)
    client.post(f"{PATH}{told.pk}/read/")
    assert titles(client.get(f"{PATH}?is_unread=true")) == ["two", "one"]
    assert titles(client.get(f"{PATH}?is_unread=false")) == ["three"]
    assert titles(client.get(f"{PATH}?search=tw")) == ["two"]
    assert titles(client.get(f"{PATH}?ordering=created_at")) == ["one", "two", "three"]
    page = client.get(f"{PATH}?page_size=2")
    assert titles(page) == ["three", "two"]
    assert titles(client.get(page.json()["next"])) == ["one"]


@pytest.mark.parametrize("query", ["is_unread=maybe", "event=x", "ordering=title", "cursor=x"])
def test_a_query_that_means_nothing_is_refused(client, query):
    assert_problem(client.get(f"{PATH}?{query}"), 400, "invalid-query")


def test_one_is_marked_read_once(client, person):
    told = make_notification(person)
    first = client.post(f"{PATH}{told.pk}/read/").json()
    assert first["read_at"] is not None
    assert client.post(f"{PATH}{told.pk}/read").json() == first


@pytest.mark.parametrize("key", [uuid.uuid4(), "nonsense", "%00"])
def test_what_is_not_there_cannot_be_marked(client, key):
    assert_problem(client.post(f"{PATH}{key}/read/"), 404, "not-found")


def test_anothers_is_not_there_and_stays_unread(client):
    told = make_notification(make_user())
    assert_problem(client.post(f"{PATH}{told.pk}/read/"), 404, "not-found")
    told.refresh_from_db()
    assert told.read_at is None


def test_all_are_marked_and_counted(client, person):
    other = make_user()
    for whose in (person, person, other):
        make_notification(whose)
    assert client.get(f"{PATH}unread-count").json() == {"unread": 2}
    assert client.post(f"{PATH}read-all").json() == {"marked": 2}
    assert client.get(f"{PATH}unread-count/").json() == {"unread": 0}
    assert inbox.unread(other).count() == 1


@pytest.mark.parametrize("path", ["read-all/", "{}/read/"])
def test_a_body_that_says_something_is_refused(client, person, path):
    told = make_notification(person)
    assert_problem(client.post(PATH + path.format(told.pk), {"read_at": None}), 422, "invalid-input")
    assert inbox.unread(person).count() == 1


def test_viewers_read_what_they_were_told():
    viewer = make_user(role=Role.VIEWER)
    make_notification(viewer)
    assert ApiClient(viewer).post(f"{PATH}read-all/").json() == {"marked": 1}


def test_a_key_for_something_else_reads_nothing(person):
    _, text = api_keys.issue(person, scope=api_keys.Scope(verbs=[Verb.SUBMIT]))
    client = Client(headers={"Authorization": f"Bearer {text}"})
    for path in ("", "unread-count/", "preferences/"):
        assert_problem(client.get(PATH + path), 403, "not-permitted")
    assert_problem(client.post(f"{PATH}read-all/"), 403, "not-permitted")


def test_a_list_costs_the_same_however_long_it_is(client, person, django_assert_num_queries):
    client.get(PATH)
    for _ in range(2):
        for _ in range(10):
            make_notification(person)
        with django_assert_num_queries(1 + counting_queries()):
            client.get(PATH)


# Preferences


def preference(response, name="kettle-boiled"):
    assert response.status_code == 200, response.content
    return next(item for item in response.json()["events"] if item["event"] == name)


@pytest.mark.parametrize("is_configured", [True, False])
def test_preferences_are_told_with_what_they_mean(event, client, settings, is_configured):
    settings.EMAIL_IS_CONFIGURED = is_configured
    response = client.get(PREFERENCES)
    assert response.json()["email_is_available"] is is_configured
    assert preference(response) == {
        "event": "kettle-boiled",
        "label": "Kettle",
        "description": "The kettle boiled.",
        "in_app": True,
        "email": False,
    }


def test_what_is_named_changes_and_the_rest_stays(event, signed_in, person, settings):
    settings.EMAIL_IS_CONFIGURED = True

    def change(**channels):
        body = {"events": [{"event": event.name, **channels}]}
        return signed_in.patch(PREFERENCES, body, "application/json")

    assert preference(change(email=True))["in_app"] is True
    changed = preference(change(in_app=False))
    assert (changed["in_app"], changed["email"]) == (False, True)
    assert preference(signed_in.get(PREFERENCES.rstrip("/"))) == changed
    assert preference(ApiClient(make_user()).get(PREFERENCES))["in_app"] is True
    notify(event, [News(person.pk, "It boiled", "/dashboard")], timezone.now())
    assert not inbox.of(person).exists()
    entry = AuditEntry.objects.filter(action="notification-preferences.changed").latest("id")
    assert (entry.actor_name, entry.credential) == ("ada", "token")


def test_a_key_changes_no_preference(client):
    """A thief with a key could keep the owner from hearing of it."""
    body = {"events": [{"event": "new-sign-in", "in_app": False}]}
    assert_problem(client.patch(PREFERENCES, body), 403, "not-permitted")
    assert not NotificationPreference.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"events": {}},
        {"events": [1]},
        {"events": [{"in_app": True}]},
        {"events": [{"event": "unknown", "in_app": True}]},
        {"events": [{"event": "kettle-boiled", "in_app": "yes"}]},
        {"events": [{"event": "kettle-boiled", "in_app": None}]},
        {"events": [{"event": "kettle-boiled", "sms": True}]},
        {"events": [{"event": "for-operators", "in_app": False}]},
        {"events": [{"event": "kettle-boiled", "in_app": False}, {"event": "unknown"}]},
        {"events": [{"event": "kettle-boiled", "email": True}]},
        {"events": [{"event": "kettle-boiled"}] * 101},
        {"person": "x", "events": []},
    ],
)
def test_a_change_that_makes_no_sense_changes_nothing(event, signed_in, monkeypatch, body):
    """Among them: an event of operators, and emails where none can be sent."""
    hidden = Event("for-operators", "Alert", "Something is wrong.", roles=[Role.OPERATOR])
    monkeypatch.setitem(events._events, hidden.name, hidden)
    assert_problem(signed_in.patch(PREFERENCES, body, "application/json"), 422, "invalid-input")
    assert not NotificationPreference.objects.exists()
