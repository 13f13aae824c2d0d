"""What becomes of a condition that is true: rows, and news for operators."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import OperationalError
from django.urls import reverse
from prometheus_client.parser import text_string_to_metric_families

from core.models import Alert, Lease, Notification, User, WebhookDelivery
from core.ops import health, metrics
from core.ops.alerts import figures, handling, rules, watch
from core.ops.alerts.expressions import Compared, Increase, Metric
from core.ops.alerts.watch import Watch
from tests.conftest import FakeClock
from tests.core.ops.alerts.conftest import KETTLE, Kettles
from tests.factories import make_administrator, make_alert, make_operator, make_user, make_webhook

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture
def operator(db: None) -> User:
    return make_operator(username="ada")


def firing() -> list[str]:
    return list(Alert.objects.firing().order_by("about").values_list("title", flat=True))


def told(person: User) -> list[str]:
    return list(Notification.objects.filter(person=person).order_by("pk").values_list("title", flat=True))


def test_it_fires_when_the_condition_has_lasted_and_tells_when_it_began(kettles: Kettles) -> None:
    began = kettles.now + timedelta(seconds=15)
    kettles.say(a=150, b=20)
    kettles.say(45, a=160, b=20)
    assert firing() == []
    kettles.say(a=170, b=20)
    (alert,) = Alert.objects.all()
    assert (alert.name, alert.title, alert.about) == ("KettleHot", "The kettle a is hot", "kettle=a")
    assert (alert.value, alert.limit, alert.severity) == (170, 100, "warning")
    assert (alert.since, alert.fired_at, alert.resolved_at) == (began, kettles.now, None)


def test_what_comes_and_goes_never_fires(kettles: Kettles) -> None:
    for _ in range(10):
        kettles.say(45, a=150)
        kettles.say(a=20)
    assert not Alert.objects.exists()


def test_while_it_fires_there_is_one_row_with_the_latest_value(kettles: Kettles) -> None:
    kettles.heat(a=150, b=150)
    for degrees in (160, 170, 180):
        kettles.say(a=degrees, b=150)
    assert list(Alert.objects.order_by("about").values_list("about", "value")) == [
        ("kettle=a", 180),
        ("kettle=b", 150),
    ]


def test_it_is_resolved_when_it_has_been_right_for_a_minute(kettles: Kettles) -> None:
    kettles.heat(a=150)
    kettles.say(a=20)
    kettles.say(a=150)
    kettles.say(a=20)
    kettles.say(45, a=20)
    assert firing() == ["The kettle a is hot"]
    kettles.say(a=20)
    (alert,) = Alert.objects.all()
    assert (alert.resolved_at, alert.value) == (kettles.now, 150)
    kettles.heat(a=150)
    assert Alert.objects.count() == 2


def test_operators_are_told_once_when_it_fires_and_once_when_it_is_resolved(kettles: Kettles, operator: User) -> None:
    others = make_user(), make_operator(is_active=False)
    administrator = make_administrator()
    kettles.heat(a=150)
    for _ in range(5):
        kettles.say(a=150)
    kettles.cool()
    for _ in range(5):
        kettles.say(a=20)
    for person in (operator, administrator):
        assert told(person) == ["Alert: The kettle a is hot", "Resolved: The kettle a is hot"]
    assert [told(person) for person in others] == [[], []]


def test_the_news_says_what_follows_and_leads_to_the_alert(kettles: Kettles, operator: User) -> None:
    kettles.heat(a=150)
    news, alert = Notification.objects.get(), Alert.objects.get()
    assert (news.event, news.body) == ("alert", "It boils dry.")
    assert news.link == reverse("admin:core_alert_change", args=[alert.pk])
    kettles.cool()
    (news,) = Notification.objects.exclude(pk=news.pk)
    assert (news.title, news.body) == ("Resolved: The kettle a is hot", "It lasted 2 min.")


def test_webhooks_are_told_the_same_once_however_many_operators_there_are(kettles: Kettles, operator: User) -> None:
    make_administrator()
    make_webhook()
    kettles.heat(a=150)
    kettles.cool()
    alert = Alert.objects.get()
    resolved, fired = WebhookDelivery.objects.all()
    assert (fired.event, fired.title, fired.text) == ("alert", "Alert: The kettle a is hot", "It boils dry.")
    assert fired.link == resolved.link == reverse("admin:core_alert_change", args=[alert.pk])
    assert fired.data == {
        "alert": "KettleHot",
        "state": "firing",
        "severity": "warning",
        "labels": {"kettle": "a"},
        "since": alert.since.isoformat(),
    }
    assert (resolved.title, resolved.data) == ("Resolved: The kettle a is hot", {**fired.data, "state": "resolved"})


def test_what_is_silenced_fires_and_nobody_is_told(kettles: Kettles, operator: User, fake_clock: FakeClock) -> None:
    fake_clock.moment = kettles.now
    handling.silence("KettleHot", "kettle=a", minutes=60, reason="tea", by=operator)
    kettles.heat(a=150, b=150)
    assert firing() == ["The kettle a is hot", "The kettle b is hot"]
    assert told(operator) == ["Alert: The kettle b is hot"]
    kettles.cool()
    assert told(operator) == ["Alert: The kettle b is hot", "Resolved: The kettle b is hot"]


def test_who_was_told_that_it_fires_is_told_of_its_end_also_in_a_silence(
    kettles: Kettles, operator: User, fake_clock: FakeClock
) -> None:
    kettles.heat(a=150)
    fake_clock.moment = kettles.now
    handling.silence("KettleHot", minutes=60, reason="tea", by=operator)
    kettles.cool()
    assert told(operator) == ["Alert: The kettle a is hot", "Resolved: The kettle a is hot"]


def test_who_was_not_told_is_told_when_the_silence_is_over(
    kettles: Kettles, operator: User, fake_clock: FakeClock
) -> None:
    fake_clock.moment = kettles.now
    handling.silence("KettleHot", minutes=10, reason="tea", by=operator)
    kettles.heat(a=150)
    kettles.say(8 * 60, a=150)
    assert told(operator) == []
    kettles.say(60, a=150)
    assert told(operator) == ["Alert: The kettle a is hot"]


def test_another_process_goes_on_where_one_stopped(kettles: Kettles, operator: User) -> None:
    kettles.heat(a=150)
    kettles.watch = Watch()
    kettles.say(a=150)
    assert (len(firing()), len(told(operator))) == (1, 1)
    kettles.cool()
    assert (firing(), len(told(operator))) == ([], 2)


def test_two_that_watch_at_once_make_one_alert_and_tell_once(kettles: Kettles, operator: User) -> None:
    first, second = kettles.watch, Watch()
    for _ in range(6):
        kettles.watch = first
        kettles.say(a=150)
        kettles.watch = second
        kettles.say(0, a=150)
    assert (len(firing()), len(told(operator))) == (1, 1)


def test_what_nobody_looked_at_has_not_lasted(kettles: Kettles) -> None:
    """Another process may have watched meanwhile, or the machine was asleep."""
    kettles.say(a=150)
    kettles.say(3600, a=150)
    assert firing() == []
    kettles.say(60, a=150)
    assert firing() == ["The kettle a is hot"]


def test_a_clock_that_is_set_makes_nothing_fire(kettles: Kettles) -> None:
    kettles.say(a=150)
    kettles.set_clock(hours=2)
    kettles.say(a=150)
    assert firing() == []
    kettles.set_clock(hours=-4)
    kettles.say(45, a=150)
    assert firing() == ["The kettle a is hot"]
    kettles.set_clock(hours=2)
    kettles.say(a=20)
    kettles.set_clock(hours=2)
    kettles.say(a=20)
    assert firing() == ["The kettle a is hot"]


def test_what_no_rule_knows_any_more_is_resolved(kettles: Kettles, monkeypatch: pytest.MonkeyPatch) -> None:
    kettles.heat(a=150)
    monkeypatch.setattr(rules, "_rules", {})
    kettles.cool()
    assert firing() == []


def test_while_nobody_can_tell_everything_stays(kettles: Kettles, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a start, counts of less than a minute say nothing."""
    kettles.heat(a=150)
    counted = replace(KETTLE, condition=Compared(Increase(Metric("kettle_degrees"), by=("kettle",)), ">", 100))
    monkeypatch.setattr(rules, "_rules", {counted.name: counted})
    kettles.watch = Watch()
    for _ in range(4):
        kettles.say(a=20)
    assert firing() == ["The kettle a is hot"]
    for _ in range(5):
        kettles.say(a=20)
    assert firing() == []


def test_what_could_not_be_read_stays_as_it_is(kettles: Kettles) -> None:
    """A reader of the metrics that fails gives no kettles, which is not to say that they are cold."""
    kettles.heat(a=150)
    for _ in range(5):
        kettles.say(is_whole=False)
    assert firing() == ["The kettle a is hot"]
    kettles.cool()
    assert firing() == []


def test_what_could_be_read_is_looked_at_where_something_else_could_not(kettles: Kettles) -> None:
    for _ in range(5):
        kettles.say(is_whole=False, a=150)
    assert firing() == ["The kettle a is hot"]


def test_labels_are_told_whole_and_cut_where_they_are_long(kettles: Kettles, operator: User) -> None:
    kettles.heat(**{"x" * 500: 150})
    (alert,) = Alert.objects.all()
    assert (len(alert.title), len(alert.about), len(alert.labels["kettle"])) == (200, 200, 500)
    kettles.say(**{"x" * 500: 160})
    assert Alert.objects.get().value == 160


def test_a_turn_asks_the_web_process_and_reads_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens on the port of the tests, so that the alert of /health fires after a minute."""
    monkeypatch.setattr(health, "start", lambda: None)  # its thread would outlive the test
    watching = Watch()
    watch.turn(watching, 1000.0)
    values = {
        sample.name: sample.value
        for family in text_string_to_metric_families(metrics.page("")[1].decode())
        for sample in family.samples
    }
    assert values["sutazai_health_up"] == 0
    assert 0 < values["sutazai_disk_free_bytes"] < values["sutazai_disk_size_bytes"]
    for seconds in (30, 60):
        watch.turn(watching, 1000.0 + seconds)
    assert "The web process does not answer" in firing()


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn starts no thread that would outlive the test, and asks nobody."""
    monkeypatch.setattr(health, "start", lambda: None)
    monkeypatch.setattr(figures, "ask_web", lambda: None)


def failing(*_: object, **__: object) -> None:
    raise LookupError("anything")


@pytest.mark.usefixtures("quiet")
def test_who_watched_goes_on_to_ask_the_web_process_while_the_database_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OperationalError("the connection was closed")

    asked: list[int] = []
    watching = Watch()
    watch.turn(watching, 1000.0)
    monkeypatch.setattr(figures, "ask_web", lambda: asked.append(1))
    monkeypatch.setattr(watch.leases, "take", fail)
    for process in (watching, Watch()):
        with pytest.raises(OperationalError):
            watch.turn(process, 1015.0)
    assert asked == [1]


@pytest.mark.usefixtures("quiet")
def test_a_look_that_fails_does_not_count_as_one(monkeypatch: pytest.MonkeyPatch, fake_clock: FakeClock) -> None:
    assert not watch.has_looked_lately()
    watch.turn(Watch(), 1000.0)
    assert watch.has_looked_lately()
    fake_clock.advance(61)
    with monkeypatch.context() as patch:
        patch.setattr(Watch, "look", failing)
        with pytest.raises(LookupError):
            watch.turn(Watch(), 1061.0)
    assert watch.watcher()
    assert not watch.has_looked_lately()
    watch.turn(Watch(), 1062.0)
    assert watch.has_looked_lately()


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("error", [OperationalError("the table is gone"), LookupError("anything")])
def test_a_history_that_cannot_be_written_keeps_nobody_from_looking(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(watch._history, "write", fail)
    assert watch.turn(Watch(), 1000.0)
    assert watch.has_looked_lately()
    assert "How the parts were is not written down" in caplog.text


@pytest.mark.usefixtures("quiet")
def test_a_turn_goes_on_where_metrics_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = make_alert(labels={"node": "gpu-1"})
    monkeypatch.setattr(metrics, "_readers", [failing])
    watching = Watch()
    for seconds in (0, 30, 60, 90):
        assert watch.turn(watching, 1000.0 + seconds)
    assert lost.title in firing()


def test_a_process_without_the_lease_leaves_it_to_another(
    monkeypatch: pytest.MonkeyPatch, fake_clock: FakeClock
) -> None:
    Lease.objects.create(name=watch.DUTY, holder="elsewhere", held_until=fake_clock.moment + timedelta(seconds=30))
    monkeypatch.setattr(health, "start", lambda: None)
    monkeypatch.setattr(figures, "ask_web", lambda: pytest.fail("It asked."))
    watch.turn(Watch(), 1000.0)
