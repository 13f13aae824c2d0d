"""What the console leaves in the audit log, and how the log is read there."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db import OperationalError, connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from core import audit
from core.access import api_keys
from core.admin.audited import AuditedAdmin
from core.audit import denials, sealer
from core.audit import entries as audit_entries
from core.models import ApiKey, AuditEntry, MaintenanceRun, Team, User
from core.ops import maintenance
from core.ops.jobs.audit import VERIFY
from tests.factories import make_administrator, make_staff, make_team, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

CANARY = "canary-of-the-coal-mine"
LIST = "/admin/core/auditentry/"


@pytest.fixture
def person() -> Client:
    """A superuser's browser; how they signed in is not in the log."""
    client = Client(REMOTE_ADDR="192.0.2.7")
    client.force_login(make_administrator(username="op"))
    AuditEntry.objects.all()._raw_delete("default")
    return client


def browser_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def clerk_with(*permissions: str) -> Client:
    return browser_of(make_staff(*permissions))


def told() -> list[tuple[str, str]]:
    rows = AuditEntry.objects.order_by("id")
    assert {(row.actor_name, row.credential, row.address) for row in rows} <= {("op", "session", "192.0.2.7")}
    return [(row.action, row.object_name) for row in rows]


def everything() -> str:
    denials.flush()
    return json.dumps(list(AuditEntry.objects.values()), default=str)


def form_of(client: Client, page: str) -> dict[str, Any]:
    """What a browser would send of a form that nobody touched."""
    form = client.get(page).context["adminform"].form
    values = {name: form[name].value() for name in form.fields}
    return {name: value for name, value in values.items() if value not in (None, "", False)}


# Changes


def test_every_page_of_the_console_is_audited():
    strangers = [
        model_admin for model_admin in admin.site._registry.values() if not isinstance(model_admin, AuditedAdmin)
    ]
    assert strangers == []


def test_adding_changing_and_deleting_is_told_with_what_changed(person):
    person.post(reverse("admin:core_team_add"), {"name": "Ops", "slug": "ops"})
    team = Team.objects.get(slug="ops")
    person.post(reverse("admin:core_team_change", args=[team.pk]), {"name": "Operations", "slug": "ops"})
    person.post(reverse("admin:core_team_delete", args=[team.pk]), {"post": "yes"})

    assert told() == [("team.added", "Ops"), ("team.changed", "Operations"), ("team.deleted", "Operations")]
    added, changed, deleted = AuditEntry.objects.order_by("id")
    assert added.changes["slug"] == [None, "ops"]
    assert changed.changes == {"name": ["Ops", "Operations"]}
    assert deleted.changes["name"] == ["Operations", None]
    assert {row.object_id for row in (added, changed, deleted)} == {str(team.pk)}


def test_a_form_that_is_saved_as_it_was_is_not_told(person):
    team = make_team(name="Ops", slug="ops")
    person.post(reverse("admin:core_team_change", args=[team.pk]), {"name": "Ops", "slug": "ops"})
    assert told() == []


def test_deleting_selected_rows_is_told_for_each_once_it_is_confirmed(person):
    teams = [make_team(), make_team()]
    data = {"action": "delete_selected", "_selected_action": [str(team.pk) for team in teams]}

    person.post(reverse("admin:core_team_changelist"), data)
    assert told() == []
    person.post(reverse("admin:core_team_changelist"), {**data, "post": "yes"})

    assert sorted(told()) == sorted(("team.deleted", team.name) for team in teams)


def test_rights_that_are_handed_out_are_told(person):
    user = make_user(username="ada")
    page = reverse("admin:core_user_change", args=[user.pk])
    group = Group.objects.create(name="clerks")
    person.post(page, {**form_of(person, page), "role": "operator", "groups": [group.pk]})

    entry = AuditEntry.objects.get(action="user.changed")
    assert entry.changes["role"] == ["user", "operator"]
    assert entry.changes["groups"] == [["user"], ["clerks", "operator"]]


def test_a_new_password_is_told_and_masked(person):
    user = make_user(username="ada", password="old-password-123")
    data = {"password1": CANARY, "password2": CANARY, "usable_password": "true", "set-password": ""}

    assert person.post(reverse("admin:auth_user_password_change", args=[user.pk]), data).status_code == 302

    user.refresh_from_db()
    assert user.check_password(CANARY)
    assert AuditEntry.objects.get(action="user.changed").changes == {"password": ["••••••", "••••••"]}
    assert CANARY not in everything()
    assert user.password not in everything()


def test_a_person_is_added_without_the_password(person):
    data = {
        "username": "ada",
        "role": "user",
        "team": str(Team.objects.first().pk),
        "password1": CANARY,
        "password2": CANARY,
        "usable_password": "true",
    }
    assert person.post(reverse("admin:core_user_add"), data).status_code == 302
    assert ("user.added", "ada") in told()
    assert CANARY not in everything()
    assert User.objects.get(username="ada").password not in everything()


def test_a_key_is_told_once_and_its_secret_never(person):
    response = person.post(
        reverse("admin:core_apikey_add"), {"user": str(User.objects.get(username="op").pk), "name": "ci"}
    )
    key = ApiKey.objects.get()
    person.post(reverse("admin:core_apikey_revoke", args=[key.pk]))

    assert [action for action, _ in told()] == ["api-key.issued", "api-key.revoked"]
    assert response.context["text"].split("_", 2)[2] not in everything()
    assert key.secret_hash not in everything()


def test_an_action_is_told_for_each_row(person):
    user = make_user()
    keys = [api_keys.issue(user)[0] for _ in range(3)]
    AuditEntry.objects.all()._raw_delete("default")
    data = {"action": "revoke_selected", "_selected_action": [str(key.pk) for key in keys]}

    person.post(reverse("admin:core_apikey_changelist"), data)

    assert sorted(told()) == sorted(("api-key.revoked", str(key)) for key in keys)


def test_switching_schedules_is_told(person):
    every = IntervalSchedule.objects.create(every=1, period="hours")
    schedule = PeriodicTask.objects.create(name="tidy", task="core.run_maintenance", args='["tidy"]', interval=every)
    data = {"action": "disable_selected", "_selected_action": [str(schedule.pk)]}
    person.post(reverse("admin:django_celery_beat_periodictask_changelist"), data)

    entry = AuditEntry.objects.get()
    assert (entry.action, entry.changes["enabled"]) == ("periodic-task.disable-selected", [True, False])


def test_a_job_that_is_started_by_hand_is_told(person):
    person.post(reverse("admin:core_maintenancerun_run", args=["delete_sign_in_sessions"]))
    (row,) = told()
    assert row[0] == "maintenance-run.started"


@pytest.mark.django_db(transaction=True)
def test_without_its_entry_there_is_no_change(person, monkeypatch):
    team = make_team(name="Ops", slug="ops")
    key, text = api_keys.issue(make_user())

    def fail(*_: object, **__: object) -> None:
        raise OperationalError("disk full")

    monkeypatch.setattr(audit_entries, "columns", fail)
    person.raise_request_exception = False
    change = reverse("admin:core_team_change", args=[team.pk])
    assert person.post(change, {"name": "Other", "slug": "ops"}).status_code >= 500
    assert person.post(reverse("admin:core_apikey_revoke", args=[key.pk])).status_code >= 500
    data = {"action": "revoke_selected", "_selected_action": [str(key.pk)]}
    assert person.post(reverse("admin:core_apikey_changelist"), data).status_code >= 500

    team.refresh_from_db()
    assert team.name == "Ops"
    assert api_keys.verify(text) is not None


# Reading the log


def rows_of(client: Client, query: str = "") -> list[str]:
    page = client.get(f"{LIST}{query}")
    assert page.status_code == 200
    return [entry.detail for entry in page.context["cl"].result_list]


@pytest.fixture
def some_entries(person: Client) -> None:
    with audit.acting(actor=make_user(username="ada"), address="192.0.2.8", request_id="request-1"):
        audit.record("team.added", target=make_team(name="Ops"), detail="first")
    audit.record("user.changed", changes={"email": ["a", "b"]}, detail="second")
    audit.record("access.denied", outcome="refused", target=audit.Subject(name="/path"), detail="third")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["third", "second", "first"]),
        ("?q=ada", ["first"]),
        ("?q=Ops", ["first"]),
        ("?q=192.0.2.8", ["first"]),
        ("?q=request-1", ["first"]),
        ("?q=/path", ["third"]),
        ("?q=user.changed", ["second"]),
        ("?q=nobody", []),
        ("?kind=user", ["second"]),
        ("?outcome__exact=refused", ["third"]),
        ("?created_at_from=2000-01-01&created_at_to=2001-01-01", []),
        (f"?created_at_from={timezone.now():%Y-%m-%d}", ["third", "second", "first"]),
    ],
)
def test_the_list_is_searched_and_filtered(some_entries, person, query, found):
    assert rows_of(person, query) == found


def test_the_last_day_of_a_span_belongs_to_it(person):
    AuditEntry(action="thing.done", detail="noon", created_at=datetime(2020, 1, 2, 12, tzinfo=UTC)).save()
    assert rows_of(person, "?created_at_from=2020-01-02&created_at_to=2020-01-02") == ["noon"]
    assert rows_of(person, "?created_at_to=2020-01-01") == []


@pytest.mark.parametrize("page", [LIST, f"{LIST}export/"])
def test_a_day_that_is_none_is_not_taken_for_every_day(person, page):
    response = person.get(f"{page}?created_at_from=yesterday")
    assert (response.status_code, response["Location"].endswith("?e=1")) == (302, True)


def test_a_search_uses_indexes_alone(person, django_assert_max_num_queries):
    rows, _ = admin.site._registry[AuditEntry].get_search_results(None, AuditEntry.objects.all(), "ada")
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")  # of few rows it would read all
    assert "audit_by_actor" in rows.order_by().explain()
    with django_assert_max_num_queries(12):
        person.get(f"{LIST}?q=ada")


def test_the_page_of_an_entry_shows_what_changed_and_escapes_it(person):
    entry = audit.record(
        "agent.changed",
        changes={"name": ["<b>old", "new"], "prompt": ["one\ntwo\nthree", "one\n2\nthree"], "slots": [None, 3]},
    )
    text = person.get(reverse("admin:core_auditentry_change", args=[entry.pk])).text

    assert "&lt;b&gt;old" in text
    assert '<div class="c-removed">two</div>' in text
    assert '<div class="c-added">2</div>' in text
    assert "not sealed yet" in text


def test_an_empty_log_says_what_it_is_for(person):
    assert "written down here" in person.get(LIST).text


def test_nobody_changes_or_deletes_an_entry_there(person):
    entry = audit.record("thing.done")
    page = reverse("admin:core_auditentry_change", args=[entry.pk])
    person.post(page, {"detail": "forged"})
    assert person.get(reverse("admin:core_auditentry_delete", args=[entry.pk])).status_code == 403
    assert person.get(reverse("admin:core_auditentry_add")).status_code == 403
    assert AuditEntry.objects.get(pk=entry.pk).detail == ""


# Who may


def test_reading_needs_its_permission():
    entry = audit.record("thing.done")
    pages = (LIST, reverse("admin:core_auditentry_change", args=[entry.pk]))
    for page in pages:
        assert clerk_with("view_user").get(page).status_code == 403
        assert clerk_with("view_auditentry").get(page).status_code == 200


def test_exporting_needs_a_permission_of_its_own():
    page = reverse("admin:core_auditentry_export")
    reader = clerk_with("view_auditentry")
    assert reader.get(page).status_code == 403
    assert page not in reader.get(LIST).text
    assert clerk_with("export_auditentry").get(page).status_code == 403
    exporter = clerk_with("view_auditentry", "export_auditentry")
    assert exporter.get(page).status_code == 200
    assert page in exporter.get(LIST).text


def test_the_export_has_what_the_list_shows_and_is_told_itself(some_entries, person):
    response = person.get(f"{reverse('admin:core_auditentry_export')}?q=ada")

    row, end = (json.loads(line) for line in b"".join(response.streaming_content).decode().splitlines())
    assert end == {"exported": 1}
    assert (row["detail"], row["actor_name"], row["changes"]) == ("first", "ada", {})
    assert response["Content-Disposition"].endswith('.jsonl"')
    assert AuditEntry.objects.get(action="audit-log.exported").detail == "q=ada"


# The state of the chain


def test_the_list_tells_of_the_last_check(person):
    assert "Not checked yet" in person.get(LIST).text

    audit.record("thing.done")
    sealer.seal_waiting()
    maintenance.run(VERIFY, trigger=MaintenanceRun.Trigger.SCHEDULE)
    assert "The chain is intact" in person.get(LIST).text


def test_the_list_tells_of_a_log_that_does_not_hold(person):
    for _ in range(2):
        audit.record("thing.done")
    sealer.seal_waiting()
    AuditEntry.objects.filter(sequence=1)._raw_delete("default")
    run = maintenance.run(VERIFY, trigger=MaintenanceRun.Trigger.SCHEDULE)

    assert run is not None
    assert run.status == "failed"
    text = person.get(LIST).text
    assert "The log does not hold" in text
    assert "Entry 1 of the chain: removed" in text


def test_the_list_tells_of_a_check_that_did_not_come_to_its_end(person):
    MaintenanceRun.objects.create(
        job=VERIFY,
        trigger="schedule",
        status="failed",
        error="OperationalError: the connection was closed",
        started_at=timezone.now(),
        finished_at=timezone.now(),
    )
    text = person.get(LIST).text
    assert "The last check did not come to its end" in text
    assert "The log does not hold" not in text
    assert "the connection was closed" in text


def test_the_list_tells_when_nothing_seals(person):
    AuditEntry(action="thing.done", created_at=timezone.now() - timedelta(minutes=10)).save()
    assert "Nothing seals the log" in person.get(LIST).text
