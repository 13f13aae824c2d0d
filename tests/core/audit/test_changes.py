"""What an entry tells of a change, and what it keeps to itself."""

import json
from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import Group, Permission

from core import audit
from core.access import api_keys
from core.audit import changes
from core.audit.changes import MASK, diff
from core.models import ApiKey, User
from tests.factories import make_user

CANARY = "canary-of-the-coal-mine"


def test_only_fields_that_differ_are_told():
    assert diff({"name": "a", "slots": 1}, {"name": "b", "slots": 1}) == {"name": ["a", "b"]}


def test_what_was_not_there_before_is_told_whole_but_for_what_is_empty():
    assert diff(None, {"name": "a", "note": "", "slots": 0}) == {"name": [None, "a"], "slots": [None, 0]}
    assert diff({"name": "a"}, None) == {"name": ["a", None]}


@pytest.mark.parametrize(
    "name", ["password", "secret_hash", "api_key", "apiKey", "accessToken", "Authorization", "pepper", "client-secret"]
)
def test_fields_that_sound_secret_are_masked(name):
    assert diff({name: "old"}, {name: CANARY}) == {name: [MASK, MASK]}
    assert diff({name: ""}, {name: CANARY}) == {name: ["", MASK]}


@pytest.mark.parametrize("name", ["key_id", "max_output_tokens", "monkey", "object_id", "keyboard"])
def test_fields_that_merely_resemble_secrets_are_told(name):
    assert diff({name: "old"}, {name: "new"}) == {name: ["old", "new"]}


def test_secrets_are_masked_at_any_depth():
    told = diff({"options": {}}, {"options": {"servers": [{"name": "a", "token": CANARY}], "top_p": 0.5}})
    assert told == {"options": [{}, {"servers": [{"name": "a", "token": MASK}], "top_p": 0.5}]}


def test_a_change_inside_of_a_secret_is_told_as_a_change():
    told = diff({"options": {"token": "one"}}, {"options": {"token": "two"}})
    assert told == {"options": [{"token": MASK}, {"token": MASK}]}


@pytest.mark.django_db
def test_a_model_names_further_secrets(monkeypatch):
    monkeypatch.setattr(User, "masked_in_audit", {"last_name"}, raising=False)
    person = make_user(last_name="before")
    before = audit.snapshot(person)
    person.last_name = CANARY
    assert diff(before, person) == {"last_name": [MASK, MASK]}


def test_long_values_are_cut_and_told_by_their_hash():
    before, after = "a" * 3000, "a" * 3000 + "b"
    ((old, new),) = diff({"text": before}, {"text": after}).values()
    assert old != new
    assert "3001 characters" in new
    assert len(new) < 2100


@pytest.mark.parametrize("value", [float("nan"), datetime(2026, 1, 2, tzinfo=UTC), {1: 2}, "\x00\ud800", b"x", {"a"}])
def test_every_value_becomes_json_that_both_databases_take(value):
    told = json.dumps(diff({"field": None}, {"field": value}), allow_nan=False)
    assert "\\u0000" not in told
    assert "\\ud800" not in told


@pytest.mark.django_db
def test_a_persons_groups_and_permissions_are_told_by_name():
    person = make_user()
    before = audit.snapshot(person)
    person.groups.add(Group.objects.create(name="clerks"))
    person.user_permissions.add(Permission.objects.get(codename="view_auditentry"))
    told = diff(before, audit.snapshot(person))
    assert told == {"groups": [["user"], ["clerks", "user"]], "user_permissions": [[], ["view_auditentry"]]}


@pytest.mark.django_db
def test_a_snapshot_reads_nothing_that_was_not_loaded(django_assert_num_queries):
    api_keys.issue(make_user(), "a name")
    key = ApiKey.objects.defer("secret_hash", "created_at").get()
    with django_assert_num_queries(0):
        told = audit.snapshot(key)
    assert {"secret_hash", "created_at"}.isdisjoint(told)
    with django_assert_num_queries(1):
        assert diff(told, audit.stored(key)) == {}


@pytest.mark.parametrize(("text", "cut"), [("abc", "abc"), ("abcdef", "abcd…"), ("a\x00b", "a\ufffdb")])
def test_texts_fit_their_columns(text, cut):
    assert changes.clean(text, 5) == cut
