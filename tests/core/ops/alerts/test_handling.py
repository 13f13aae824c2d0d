"""What operators do about alerts."""

from datetime import timedelta

import pytest
from django.db import IntegrityError
from django.utils import timezone

from core.models import Alert, AlertSilence, AuditEntry, User
from core.ops.alerts import handling
from tests.conftest import FakeClock
from tests.core.ops.alerts.conftest import Kettles
from tests.factories import make_operator

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture
def operator(db: None) -> User:
    return make_operator(username="ada")


@pytest.fixture
def alert(kettles: Kettles) -> Alert:
    kettles.heat(a=150)
    return Alert.objects.get()


def actions() -> list[tuple[str, str]]:
    return list(AuditEntry.objects.order_by("pk").values_list("action", "actor_name"))


def test_who_acknowledges_first_looks_after_it(alert: Alert, operator: User, fake_clock: FakeClock) -> None:
    handling.acknowledge(alert, by=operator, note="new kettle")
    assert (alert.acknowledged_by, alert.note, alert.acknowledged_at) == ("ada", "new kettle", fake_clock.moment)
    handling.acknowledge(alert, by=make_operator(), note="me too")
    assert (alert.acknowledged_by, alert.note) == ("ada", "new kettle")
    assert actions() == [("alert.acknowledged", "ada")]


def test_what_is_over_is_acknowledged_by_nobody(alert: Alert, operator: User, kettles: Kettles) -> None:
    kettles.cool()
    with pytest.raises(handling.NotFiring):
        handling.acknowledge(alert, by=operator)
    assert Alert.objects.get().acknowledged_at is None
    assert actions() == []


def test_a_new_silence_takes_the_place_of_the_old_one(operator: User, fake_clock: FakeClock) -> None:
    handling.silence("KettleHot", minutes=60, reason="tea", by=operator)
    handling.silence("KettleHot", minutes=5, reason="coffee", by=operator)
    handling.silence("KettleHot", "kettle=a", minutes=5, reason="coffee", by=operator)
    rows = AlertSilence.objects.order_by("about").values_list("about", "reason", "by", "until")
    until = fake_clock.moment + timedelta(minutes=5)
    assert list(rows) == [("", "coffee", "ada", until), ("kettle=a", "coffee", "ada", until)]
    assert actions() == [("alert-silence.begun", "ada")] * 3
    assert AuditEntry.objects.order_by("pk")[1].changes["reason"] == ["tea", "coffee"]


def test_a_silence_ends_by_hand_and_by_itself(operator: User, fake_clock: FakeClock) -> None:
    silence = handling.silence("KettleHot", minutes=60, reason="tea", by=operator)
    assert list(AlertSilence.objects.holding(fake_clock.moment)) == [silence]
    fake_clock.advance(3600)
    assert list(AlertSilence.objects.holding(fake_clock.moment)) == []
    handling.end_silence(silence, by=operator)
    assert not AlertSilence.objects.exists()
    assert actions()[-1] == ("alert-silence.ended", "ada")


@pytest.mark.parametrize("wrong", [{"acknowledged_by": "ada"}, {"acknowledged_at": timezone.now()}])
def test_who_looks_after_an_alert_is_known_with_the_moment(alert: Alert, wrong: dict[str, object]) -> None:
    with pytest.raises(IntegrityError):
        Alert.objects.filter(pk=alert.pk).update(**wrong)


def test_a_silence_ends_after_it_began() -> None:
    now = timezone.now()
    with pytest.raises(IntegrityError):
        AlertSilence.objects.create(name="KettleHot", reason="tea", by="ada", since=now, until=now)
