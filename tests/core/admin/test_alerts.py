"""Alerts in the console."""

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from core.models import Alert, AlertSilence, AuditEntry, User
from core.ops.alerts import handling, rules, watch
from tests.factories import make_alert, make_staff

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

LIST = reverse("admin:core_alert_changelist")
WATCHED = reverse("console-alerts-watched")


def page(alert: Alert) -> str:
    return reverse("admin:core_alert_change", args=[alert.pk])


def press(client: Client, button: str, alert: Alert, **data: object) -> str:
    return client.post(reverse(f"admin:core_alert_{button}", args=[alert.pk]), data, follow=True).text


def read(alert: Alert) -> Alert:
    return Alert.objects.get(pk=alert.pk)


def viewer() -> Client:
    client = Client()
    client.force_login(make_staff("view_alert"))
    return client


# The list


def test_the_list_begins_with_what_fires_and_what_is_worst(console: Client) -> None:
    make_alert(labels={"node": "over"}, resolved_at=timezone.now())
    make_alert("DiskNearlyFull", value=0.07, limit=0.1)
    make_alert("APIResponseSlow", value=7.24, limit=5)
    text = console.get(LIST).text
    places = [text.index(title) for title in ("disk is nearly full", "Answers are slow", "The node over is lost")]
    assert places == sorted(places)
    assert "7 % (limit 10 %)" in text
    assert "7.24 s (limit 5 s)" in text


def test_the_list_costs_the_same_for_many(console: Client, operator: User, django_assert_max_num_queries) -> None:
    for number in range(30):
        make_alert(labels={"node": f"n{number}"})
        handling.silence("NodeLost", f"node=n{number}", minutes=5, reason="x", by=operator)
    with django_assert_max_num_queries(10):
        assert console.get(LIST).text.count("Silenced") == 30


def test_a_list_of_nothing_says_so(console: Client) -> None:
    text = console.get(LIST).text
    assert "Nothing was wrong so far." in text
    assert WATCHED in text


# The page of one


def test_the_page_says_what_is_wrong_why_since_when_and_what_to_do(console: Client) -> None:
    earlier = make_alert(
        labels={"node": "<b>a</b>"},
        resolved_at=timezone.now(),
        acknowledged_at=timezone.now(),
        acknowledged_by="bob",
    )
    alert = make_alert(labels={"node": "<b>a</b>"})
    rule = rules.find("NodeLost")
    text = console.get(page(alert)).text
    for shown in (rule.why, reverse(rule.page), "OLLAMA_HOST=0.0.0.0", "Critical", str(earlier.pk), "bob looked"):
        assert shown in text
    assert "<b>a" not in text


def test_every_alert_has_a_page(console: Client) -> None:
    for rule in rules.registered():
        text = console.get(page(make_alert(rule.name, labels=dict.fromkeys(rule.condition.labels, "x")))).text
        assert "It fires for the first time." in text


def test_the_page_of_one_that_there_is_no_rule_for_any_more(console: Client) -> None:
    alert = make_alert()
    Alert.objects.update(name="gone")
    assert console.get(page(alert)).status_code == 200


def test_the_first_who_acknowledges_it_looks_after_it(console: Client) -> None:
    alert = make_alert()
    assert "op looks after it" in press(console, "acknowledge", alert, note="new disks")
    assert (read(alert).acknowledged_by, read(alert).note) == ("op", "new disks")
    (entry,) = AuditEntry.objects.filter(object_id=str(alert.pk))
    assert (entry.action, entry.actor_name) == ("alert.acknowledged", "op")
    assert "Nothing has changed. note:" in press(console, "acknowledge", make_alert(), note="x" * 301)


def test_what_is_over_cannot_be_acknowledged(console: Client) -> None:
    alert = make_alert(resolved_at=timezone.now())
    assert "../acknowledge/" not in console.get(page(alert)).text
    assert "does not fire any more" in press(console, "acknowledge", alert)
    assert read(alert).acknowledged_at is None


def test_it_is_silenced_for_some_minutes_alone_or_with_all_of_its_rule(console: Client) -> None:
    alert = make_alert(labels={"node": "a"})
    assert "Silenced until" in press(console, "silence", alert, minutes="5", reason="disks")
    silence = AlertSilence.objects.get()
    assert (silence.name, silence.about, silence.reason, silence.by) == ("NodeLost", "node=a", "disks", "op")
    assert silence.until - silence.since == timedelta(minutes=5)
    assert "Silenced" in console.get(page(alert)).text
    press(console, "silence", alert, minutes="5", reason="disks", all="on")
    assert set(AlertSilence.objects.values_list("about", flat=True)) == {"", "node=a"}


@pytest.mark.parametrize(
    "wrong", [{"minutes": "0"}, {"minutes": "x"}, {"minutes": "999999"}, {"reason": ""}, {"reason": "x" * 301}]
)
def test_a_silence_that_makes_no_sense_changes_nothing(console: Client, wrong: dict[str, str]) -> None:
    form = {"minutes": "5", "reason": "disks", **wrong}
    assert "Nothing has changed." in press(console, "silence", make_alert(), **form)
    assert "Nothing has changed." in console.post(WATCHED, {"rule": "NodeLost", **form}, follow=True).text
    assert not AlertSilence.objects.exists()
    assert not AuditEntry.objects.filter(object_type__startswith="alert").exists()


def test_nothing_is_added_deleted_or_written_by_a_form(console: Client) -> None:
    alert = make_alert()
    assert console.get(reverse("admin:core_alert_add")).status_code == 403
    assert console.post(reverse("admin:core_alert_delete", args=[alert.pk])).status_code == 403
    console.post(page(alert), {"title": "x", "resolved_at": "2026-01-01"})
    assert (read(alert).title, read(alert).is_firing) == (alert.title, True)


# What is watched


def test_all_rules_stand_on_a_page_with_their_limits_and_states(console: Client) -> None:
    alert = make_alert()
    text = console.get(WATCHED).text
    for rule in rules.registered():
        assert rule.name in text
    for shown in ("&gt; 5 s", "&lt; 10 %", "&gt; 1,000", page(alert), "Nothing is silenced"):
        assert shown in text


def test_a_rule_is_silenced_beforehand_and_told_of_again(console: Client) -> None:
    form = {"rule": "NodeLost", "minutes": "30", "reason": "the <b>move</b>"}
    assert "nobody is told of NodeLost" in console.post(WATCHED, form, follow=True).text
    silence = AlertSilence.objects.get()
    text = console.get(WATCHED).text
    assert "the &lt;b&gt;move&lt;/b&gt;" in text
    assert "The silence is over" in console.post(WATCHED, {"end": str(silence.pk)}, follow=True).text
    assert not AlertSilence.objects.exists()
    actions = AuditEntry.objects.filter(object_type="alert-silence").order_by("pk").values_list("action", flat=True)
    assert list(actions) == ["alert-silence.begun", "alert-silence.ended"]


@pytest.mark.parametrize(
    ("rule", "only_for", "about"),
    [
        ("NodeLost", "", ""),
        ("NodeLost", "gpu-1", "node=gpu-1"),
        ("NodeLost", " node=gpu-1 ", "node=gpu-1"),
        ("NodeLost", "gpu=1, rack=2", "node=gpu=1, rack=2"),
        ("PoolNearlyFull", "process=web,pool=a, b", "pool=a, b, process=web"),
    ],
)
def test_a_rule_is_silenced_beforehand_for_one_only(console: Client, rule: str, only_for: str, about: str) -> None:
    form = {"rule": rule, "minutes": "30", "reason": "the move", "only_for": only_for}
    silenced = f"{rule} ({about})" if about else rule
    assert f"nobody is told of {silenced}." in console.post(WATCHED, form, follow=True).text
    assert list(AlertSilence.objects.values_list("name", "about")) == [(rule, about)]


def test_the_others_of_a_rule_are_told_while_one_is_silenced_beforehand(console: Client, operator: User) -> None:
    console.post(WATCHED, {"rule": "NodeLost", "minutes": "30", "reason": "the move", "only_for": "gpu-1"})
    for node in ("gpu-1", "gpu-2"):
        make_alert(labels={"node": node}, told_at=None)
    watch.tell_of_firing(timezone.now())
    assert [alert.about for alert in Alert.objects.exclude(told_at=None)] == ["node=gpu-2"]


@pytest.mark.parametrize(
    ("rule", "only_for", "help_text"),
    [
        ("BackupTooOld", "backup=a", "leave “Only for” empty"),
        ("NodeLost", "node=", "as node=…"),
        ("NodeLost", "node=a, node=b", "as node=…"),
        ("PoolNearlyFull", "database", "as pool=…, process=…"),
        ("PoolNearlyFull", "pool=database", "as pool=…, process=…"),
        ("PoolNearlyFull", "x=1, pool=database, process=web", "as pool=…, process=…"),
        ("NodeLost", "x" * 201, "only_for:"),
    ],
)
def test_what_no_alert_of_the_rule_can_be_about_is_not_silenced(
    console: Client, rule: str, only_for: str, help_text: str
) -> None:
    form = {"rule": rule, "minutes": "30", "reason": "the move", "only_for": only_for}
    text = console.post(WATCHED, form, follow=True).text
    assert "Nothing has changed." in text
    assert help_text in text
    assert not AlertSilence.objects.exists()


def test_the_page_says_how_to_write_what_a_rule_is_about(console: Client) -> None:
    text = console.get(WATCHED).text
    for shown in (
        ">NodeLost (node=…)<",
        ">PoolNearlyFull (pool=…, process=…)<",
        ">DiskNearlyFull (folder=…)<",
        ">BackupTooOld<",
    ):
        assert shown in text


@pytest.mark.parametrize("form", [{}, {"rule": "nonsense"}, {"end": "nonsense"}, {"end": "\x00"}, {"rule": "\x00"}])
def test_a_form_that_makes_no_sense_changes_nothing(console: Client, form: dict[str, str]) -> None:
    assert "Nothing has changed." in console.post(WATCHED, form, follow=True).text


# Who may, and the dashboard


def test_it_is_for_those_who_may(clerk: Client) -> None:
    alert = make_alert()
    for address in (LIST, page(alert), WATCHED):
        assert clerk.get(address).status_code == 403
    looking = viewer()
    for address in (LIST, page(alert), WATCHED):
        text = looking.get(address).text
        assert 'name="reason"' not in text
        assert "../acknowledge/" not in text
    for button in ("acknowledge", "silence"):
        address = reverse(f"admin:core_alert_{button}", args=[alert.pk])
        assert looking.post(address, {"minutes": "5", "reason": "x"}).status_code == 403
    assert looking.post(WATCHED, {"rule": "NodeLost", "minutes": "5", "reason": "x"}).status_code == 403
    assert (read(alert).acknowledged_at, AlertSilence.objects.exists()) == (None, False)


def test_alerts_are_one_click_from_the_dashboard(operator: User) -> None:
    looking = viewer()

    def shown() -> tuple[dict[str, str], list[dict[str, str]]]:
        cache.clear()
        snapshot = looking.get(reverse("console-dashboard")).json()
        (figure,) = snapshot["figures"]
        return figure, snapshot["problems"]

    figure, problems = shown()
    assert (figure["value"], figure["url"], figure["tone"], problems) == ("0", LIST, "", [])
    slow = make_alert("APIResponseSlow")
    figure, (problem,) = shown()
    assert (figure["value"], figure["tone"], problem["level"]) == ("1", "warning", "warning")
    assert (problem["title"], problem["detail"], problem["url"]) == (
        "An alert fires",
        "Answers are slow.",
        page(slow),
    )
    for _ in range(5):
        make_alert()
    figure, (problem,) = shown()
    assert (figure["value"], figure["tone"], problem["level"]) == ("6", "bad", "bad")
    assert problem["title"] == "6 alerts fire"
    assert problem["detail"].endswith("; and 2 more.")
    assert problem["url"] == LIST
    for name in ("NodeLost", "APIResponseSlow"):
        handling.silence(name, minutes=5, reason="x", by=operator)
    assert shown()[0]["value"] == "0"
