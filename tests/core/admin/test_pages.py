"""Keys, people, housekeeping and schedules in the console."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from core import formats
from core.access import api_keys
from core.models import ApiKey, MaintenanceRun, User
from core.ops import maintenance, schedules
from tests.factories import make_staff, make_user

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def browser_of(person: User) -> Client:
    client = Client()
    client.force_login(person)
    return client


def clerk_with(*permissions: str) -> User:
    return make_staff(*permissions)


# API keys


def test_a_key_is_shown_once_and_works(console: Client, operator: User) -> None:
    response = console.post(reverse("admin:core_apikey_add"), {"user": str(operator.pk), "name": "ci"})

    text = response.context["text"]
    assert text in response.text
    assert "no-store" in response["Cache-Control"]
    assert api_keys.verify(text).user == operator
    key = ApiKey.objects.get()
    for page in (reverse("admin:core_apikey_changelist"), reverse("admin:core_apikey_change", args=[key.pk])):
        shown = console.get(page).text
        assert text not in shown
        assert key.secret_hash not in shown


def test_a_revoked_key_stops_working(console: Client, operator: User) -> None:
    key, text = api_keys.issue(operator, "ci")

    assert (
        "does not work any more" in console.post(reverse("admin:core_apikey_revoke", args=[key.pk]), follow=True).text
    )

    assert api_keys.verify(text) is None
    assert "nothing changed" in console.post(reverse("admin:core_apikey_revoke", args=[key.pk]), follow=True).text


def test_revoking_selected_keys_reports_what_was_skipped(console: Client, operator: User) -> None:
    keys = [api_keys.issue(operator)[0] for _ in range(3)]
    console.post(reverse("admin:core_apikey_revoke", args=[keys[0].pk]))
    data = {"action": "revoke_selected", "_selected_action": [str(key.pk) for key in keys]}

    text = console.post(reverse("admin:core_apikey_changelist"), data, follow=True).text

    assert "Revoked 2 keys." in text
    assert "Skipped 1 key: revoked before." in text


def test_only_administrators_make_keys_for_others(operator: User) -> None:
    clerk = clerk_with("add_apikey", "view_apikey")
    add = reverse("admin:core_apikey_add")

    refused = browser_of(clerk).post(add, {"user": str(operator.pk), "name": "stolen"})
    assert refused.context["adminform"].form.errors["user"]
    assert not ApiKey.objects.exists()

    browser_of(clerk).post(add, {"user": str(clerk.pk), "name": "own"})
    assert ApiKey.objects.get().user == clerk


def test_a_key_is_made_with_its_limits(console: Client, operator: User) -> None:
    data = {
        "user": str(operator.pk),
        "name": "reports",
        "verbs": ["read", "submit"],
        "agent_names": "helper, analyst,",
        "model_names": "",
        "expires_at_0": "2100-01-01",
        "expires_at_1": "00:00",
    }
    text = console.post(reverse("admin:core_apikey_add"), data).context["text"]
    key = ApiKey.objects.get()
    assert (key.verbs, key.agent_names, key.model_names) == (["read", "submit"], ["analyst", "helper"], [])
    assert key.expires_at == datetime(2100, 1, 1, tzinfo=UTC)
    assert api_keys.verify(text) == key
    assert "read, submit, analyst, helper" in console.get(reverse("admin:core_apikey_changelist")).text


def test_a_key_that_could_not_be_used_is_not_made(console: Client, operator: User) -> None:
    data = {
        "user": str(operator.pk),
        "agent_names": "x" * 61,
        "expires_at_0": "2001-01-31",
        "expires_at_1": "00:00",
    }
    errors = console.post(reverse("admin:core_apikey_add"), data).context["adminform"].form.errors
    assert {field: text.as_data()[0].message for field, text in errors.items()} == {
        "agent_names": "At most 60 characters; “xxxxxxxxxxxxxxxxxxxx…” has 61.",
        "expires_at": "This moment has passed.",
    }
    assert not ApiKey.objects.exists()


def test_a_rotated_key_is_shown_once_and_the_old_one_works_on_for_a_day(console: Client, operator: User) -> None:
    key, text = api_keys.issue(operator, "reports")
    response = console.post(reverse("admin:core_apikey_rotate", args=[key.pk]))
    assert api_keys.verify(response.context["text"]).name == "reports"
    assert api_keys.verify(text) == key
    key.refresh_from_db()
    assert timedelta(hours=23) < key.expires_at - timezone.now() <= timedelta(hours=24)


def test_nobody_gets_anothers_key_by_rotating_it(operator: User) -> None:
    key, _ = api_keys.issue(operator)
    clerk = clerk_with("change_apikey", "view_apikey")
    assert browser_of(clerk).post(reverse("admin:core_apikey_rotate", args=[key.pk])).status_code == 403
    assert ApiKey.objects.count() == 1


# People


def test_a_clerk_cannot_hand_out_rights_or_take_over_an_administrator(operator: User) -> None:
    clerk = clerk_with("change_user", "view_user", "delete_user")
    other = make_user(username="other")
    client = browser_of(clerk)
    data = {"username": "other", "team": str(other.team_id), "is_active": "on", "role": "administrator"}

    client.post(reverse("admin:core_user_change", args=[other.pk]), data)
    client.post(reverse("admin:core_user_change", args=[clerk.pk]), {**data, "username": clerk.username})

    assert not User.objects.filter(pk__in=[other.pk, clerk.pk], role="administrator").exists()
    password = {"password1": "takeover-123", "password2": "takeover-123", "usable_password": "true"}
    assert client.post(reverse("admin:auth_user_password_change", args=[operator.pk]), password).status_code == 403
    assert client.post(reverse("admin:core_user_delete", args=[operator.pk]), {"post": "yes"}).status_code == 403


def test_an_administrator_makes_people(console: Client, operator: User) -> None:
    data = {
        "username": "ada",
        "team": str(operator.team_id),
        "role": "viewer",
        "password1": "correct-horse-battery",
        "password2": "correct-horse-battery",
        "usable_password": "true",
    }
    assert console.post(reverse("admin:core_user_add"), data).status_code == 302
    ada = User.objects.get(username="ada")
    assert ada.check_password("correct-horse-battery")
    assert (ada.role, ada.is_staff) == ("viewer", False)
    assert list(ada.groups.values_list("name", flat=True)) == ["viewer"]


def test_a_role_that_is_changed_in_the_console_takes_its_group_along(console: Client) -> None:
    person = make_user(username="ada")
    extra = Group.objects.create(name="dashboard makers")
    data = {"username": "ada", "team": str(person.team_id), "is_active": "on", "role": "operator", "groups": extra.pk}

    response = console.post(reverse("admin:core_user_change", args=[person.pk]), data)

    assert response.status_code == 302, response.context["errors"]
    person.refresh_from_db()
    assert person.is_staff
    assert set(person.groups.values_list("name", flat=True)) == {"operator", "dashboard makers"}


def test_the_groups_of_the_roles_are_not_edited_by_hand(console: Client) -> None:
    page = reverse("admin:auth_group_change", args=[Group.objects.get(name="operator").pk])
    assert console.post(page, {"name": "operator", "permissions": []}).status_code == 403
    assert Group.objects.get(name="operator").permissions.exists()


# Housekeeping


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs of the test's own: one that works and one that fails."""
    monkeypatch.setattr(maintenance, "_jobs", {})
    rows = {"figures": lambda: {"rows": 3}, "preview": lambda: "It would tidy 3 rows."}
    maintenance.job("tidy", "Tidy up", **rows)(lambda: "Tidied 3 rows.")

    @maintenance.job("break", "Break", figures=dict, preview=lambda: str(1 // 0))
    def fail() -> str:
        raise OSError("disk full")


def test_a_job_can_be_run_now(jobs: None, console: Client) -> None:
    shown = console.get(reverse("admin:core_maintenancerun_changelist")).text
    assert "Tidy up" in shown

    text = console.post(reverse("admin:core_maintenancerun_run", args=["tidy"]), follow=True).text

    run = MaintenanceRun.objects.get()
    assert (run.status, run.trigger) == ("succeeded", "console")
    assert "tidy: Tidied 3 rows." in text
    assert "rows: 3 → 3" in text


def test_a_dry_run_says_what_a_job_would_do_and_does_nothing(jobs: None, console: Client) -> None:
    text = console.post(reverse("admin:core_maintenancerun_run", args=["tidy"]), {"dry": ""}, follow=True).text
    assert "Dry run of tidy, nothing was done. It would tidy 3 rows." in text
    text = console.post(reverse("admin:core_maintenancerun_run", args=["break"]), {"dry": ""}, follow=True).text
    assert "It cannot be told: ZeroDivisionError" in text
    assert not MaintenanceRun.objects.exists()


def test_the_jobs_stand_there_with_their_last_run_and_their_schedule(jobs: None, console: Client) -> None:
    every = IntervalSchedule.objects.create(every=2, period="hours")
    schedule = PeriodicTask.objects.create(
        name="maintenance: tidy", task="core.run_maintenance", interval=every, enabled=False
    )
    shown = console.get(reverse("admin:core_maintenancerun_changelist")).text
    assert reverse("admin:django_celery_beat_periodictask_change", args=[schedule.pk]) in shown
    assert "every 2 hours" in shown
    assert "Disabled" in shown
    assert "none until the next start" in shown  # the other one was deleted
    run = maintenance.run("tidy", trigger=MaintenanceRun.Trigger.SCHEDULE)
    assert run is not None
    shown = console.get(reverse("admin:core_maintenancerun_changelist")).text
    assert shown.count(reverse("admin:core_maintenancerun_change", args=[run.pk])) == 2  # and in the list below


def test_a_job_that_fails_is_reported_as_failed(jobs: None, console: Client) -> None:
    text = console.post(reverse("admin:core_maintenancerun_run", args=["break"]), follow=True).text

    assert "break failed: OSError: disk full" in text


def test_a_run_that_failed_says_what_to_do_until_another_one_followed(jobs: None, console: Client) -> None:
    failed = maintenance.run("break", trigger=MaintenanceRun.Trigger.SCHEDULE)
    assert failed is not None
    page = reverse("admin:core_maintenancerun_change", args=[failed.pk])
    again = reverse("admin:core_maintenancerun_run", args=["break"])

    shown = console.get(page).text
    assert all(text in shown for text in ("“Break” failed", "disk full", "run it again", f'action="{again}"'))
    clerk = browser_of(clerk_with("view_maintenancerun")).get(page).text
    assert "run it again" in clerk
    assert again not in clerk

    console.post(again)
    later = MaintenanceRun.objects.exclude(pk=failed.pk).get()
    shown = console.get(page).text
    assert reverse("admin:core_maintenancerun_change", args=[later.pk]) in shown
    assert again not in shown


def test_a_run_that_succeeded_asks_for_nothing(jobs: None, console: Client) -> None:
    run = maintenance.run("tidy", trigger=MaintenanceRun.Trigger.SCHEDULE)
    assert run is not None
    assert "run it again" not in console.get(reverse("admin:core_maintenancerun_change", args=[run.pk])).text


def test_a_job_that_does_not_exist_is_not_found(jobs: None, console: Client) -> None:
    assert console.post(reverse("admin:core_maintenancerun_run", args=["none"])).status_code == 404


def test_a_viewer_of_runs_is_offered_no_buttons(jobs: None, db: None) -> None:
    client = browser_of(clerk_with("view_maintenancerun"))

    assert "Tidy up" not in client.get(reverse("admin:core_maintenancerun_changelist")).text
    assert client.post(reverse("admin:core_maintenancerun_run", args=["tidy"])).status_code == 403


# Schedules


@pytest.fixture
def schedule(db: None) -> PeriodicTask:
    every = IntervalSchedule.objects.create(every=1, period="hours")
    return PeriodicTask.objects.create(name="tidy", task="core.run_maintenance", args='["tidy"]', interval=every)


def test_a_schedule_can_be_edited(console: Client, schedule: PeriodicTask) -> None:
    page = reverse("admin:django_celery_beat_periodictask_change", args=[schedule.pk])
    form = console.get(page).context["adminform"].form
    data = {name: form[name].value() for name in form.fields if form[name].value() is not None}
    data = {name: value for name, value in data.items() if value not in {"", False}}
    data |= {"name": "tidy often", "description": "Edited."}
    data.pop("start_time", None)

    response = console.post(page, data)

    assert response.status_code == 302, response.context and response.context["errors"]
    schedule.refresh_from_db()
    assert (schedule.name, schedule.description) == ("tidy often", "Edited.")


@pytest.fixture
def own(db: None) -> PeriodicTask:
    schedules.ensure()
    return PeriodicTask.objects.get(name="maintenance: refresh_models")


def test_of_housekeepings_own_schedules_people_choose_when_and_not_what(console: Client, own: PeriodicTask) -> None:
    """By their names they are known at the next start, when a renamed one would be made a second time."""
    count = PeriodicTask.objects.count()
    hours = IntervalSchedule.objects.create(every=2, period="hours")
    page = reverse("admin:django_celery_beat_periodictask_change", args=[own.pk])
    other = {"name": "mine", "task": "other", "args": "[1]"}

    response = console.post(page, {**other, "interval": hours.pk, "description": "Edited.", "enabled": "on"})

    assert response.status_code == 302, response.context and response.context["errors"]
    before = (own.name, own.task, own.args)
    own.refresh_from_db()
    assert (own.name, own.task, own.args) == before
    assert (own.description, own.interval, own.enabled) == ("Edited.", hours, True)
    assert own.expire_seconds == 2 * 3600 - schedules.EXPIRES_BEFORE_NEXT_SECONDS
    schedules.ensure()
    assert PeriodicTask.objects.count() == count


def test_housekeepings_own_schedules_are_disabled_and_not_deleted(console: Client, own: PeriodicTask) -> None:
    page = reverse("admin:django_celery_beat_periodictask_delete", args=[own.pk])
    assert console.post(page, {"post": "yes"}).status_code == 403
    selected = {"action": "delete_selected", "_selected_action": [own.pk], "post": "yes"}
    console.post(reverse("admin:django_celery_beat_periodictask_changelist"), selected)
    assert PeriodicTask.objects.filter(pk=own.pk).exists()


def test_a_schedule_of_two_kinds_or_of_none_is_refused(console: Client, own: PeriodicTask) -> None:
    crontab = CrontabSchedule.objects.create(minute="0", hour="4")
    page = reverse("admin:django_celery_beat_periodictask_change", args=[own.pk])
    for chosen in ({"interval": own.interval_id, "crontab": crontab.pk}, {}):
        response = console.post(page, {**chosen, "enabled": "on"})
        assert response.status_code == 200
        assert "must be set" in response.text


def test_an_own_schedule_leads_to_what_it_did(console: Client, own: PeriodicTask) -> None:
    run = maintenance.run("refresh_models", trigger=MaintenanceRun.Trigger.SCHEDULE)
    assert run is not None
    page = console.get(reverse("admin:django_celery_beat_periodictask_change", args=[own.pk])).text
    runs = reverse("admin:core_maintenancerun_changelist") + "?job=refresh_models"
    assert runs in page
    assert reverse("admin:core_maintenancerun_change", args=[run.pk]) in console.get(runs).text


def test_an_interval_that_several_schedules_use_is_not_edited(console: Client, schedule: PeriodicTask) -> None:
    every = schedule.interval
    page = reverse("admin:django_celery_beat_intervalschedule_change", args=[every.pk])
    other = PeriodicTask.objects.create(name="wipe", task="core.run_maintenance", args='["wipe"]', interval=every)

    assert "Several schedules use it" in console.get(page).text
    assert console.post(page, {"every": 5, "period": "days"}).status_code == 403
    remove = reverse("admin:django_celery_beat_intervalschedule_delete", args=[every.pk])
    assert console.post(remove, {"post": "yes"}).status_code == 403
    every.refresh_from_db()
    assert (every.every, every.period) == (1, "hours")

    other.delete()
    assert "Several schedules use it" not in console.get(page).text
    assert console.post(page, {"every": 5, "period": "days"}).status_code == 302
    every.refresh_from_db()
    assert (every.every, every.period) == (5, "days")


def test_schedules_are_switched_off_and_on(console: Client, schedule: PeriodicTask) -> None:
    def act(action: str) -> str:
        data: dict[str, Any] = {"action": action, "_selected_action": [str(schedule.pk)]}
        text = console.post(reverse("admin:django_celery_beat_periodictask_changelist"), data, follow=True).text
        schedule.refresh_from_db()
        return text

    assert "Disabled 1 schedule." in act("disable_selected")
    assert not schedule.enabled
    assert "Skipped 1 schedule: disabled already." in act("disable_selected")
    assert "Enabled 1 schedule." in act("enable_selected")
    assert schedule.enabled


def test_switching_schedules_needs_permission(schedule: PeriodicTask) -> None:
    client = browser_of(clerk_with("view_periodictask"))
    data = {"action": "disable_selected", "_selected_action": [str(schedule.pk)]}

    client.post(reverse("admin:django_celery_beat_periodictask_changelist"), data)

    schedule.refresh_from_db()
    assert schedule.enabled


# Writing


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (61, "1 min"), (3700, "1 h 01 min"), (3 * 86400, "3 days"), (None, "–"), (-5, "0 s")],
)
def test_ages_are_told_as_people_do(seconds: int | None, text: str) -> None:
    moment = None if seconds is None else NOW - timedelta(seconds=seconds)

    assert formats.age(moment, NOW) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0842, "84 ms"),
        (0.9996, "1 s"),
        (1.239, "1.24 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (3725, "1 h 02 min"),
    ],
)
def test_durations_keep_the_digits_that_matter(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text


def test_sizes_are_decimal() -> None:
    assert [formats.size(count) for count in (0, 999, 637_700_138, 4 * 10**12)] == ["–", "999 B", "638 MB", "4 TB"]


def test_badges_escape_what_they_show() -> None:
    assert "<b>" not in formats.badge("<b>", title='"><b>')


def test_people_who_may_not_sign_in_are_told_so(db: None) -> None:
    client = browser_of(make_user(username="plain"))

    page = client.get(reverse("admin:login"))

    assert page.status_code == 403
    assert "You are signed in as <strong>plain</strong>" in page.text
