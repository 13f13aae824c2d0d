from typing import Any

import pytest
from django.utils import timezone

from core.access import api_keys, known_keys
from core.access.known_keys import COMPARE_SECONDS, KEEP_SECONDS, KnownKeys
from core.models import ApiKey, User
from tests.factories import make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(clock: Clock) -> KnownKeys:
    return KnownKeys(clock)


@pytest.fixture
def keys() -> list[ApiKey]:
    return [api_keys.issue(make_user())[0] for _ in range(5)]


def use(known: KnownKeys, keys: list[ApiKey]) -> list[ApiKey]:
    return [known.find(key.key_id) for key in keys]


def test_a_key_is_looked_up_once(known: KnownKeys, keys: list[ApiKey], django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(5):
        assert use(known, keys) == keys
    with django_assert_num_queries(0):
        found = use(known, keys)
        assert [key.user.username for key in found] == [key.user.username for key in keys]


def test_all_are_compared_by_one_query(
    known: KnownKeys, keys: list[ApiKey], clock: Clock, django_assert_num_queries: Any
) -> None:
    use(known, keys)
    for _ in range(3):
        clock.seconds += COMPARE_SECONDS
        with django_assert_num_queries(1):
            assert use(known, keys) == keys


@pytest.mark.parametrize(
    "change",
    [
        lambda key: ApiKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now()),
        lambda key: ApiKey.objects.filter(pk=key.pk).update(agent_names=["helper"]),
        lambda key: User.objects.filter(pk=key.user_id).update(is_active=False),
        lambda key: User.objects.filter(pk=key.user_id).update(first_name="Ada"),
    ],
)
def test_what_was_changed_elsewhere_is_seen_after_two_seconds(
    known: KnownKeys, keys: list[ApiKey], clock: Clock, django_assert_num_queries: Any, change: Any
) -> None:
    use(known, keys)
    change(keys[2])
    clock.seconds += COMPARE_SECONDS
    with django_assert_num_queries(2):  # and the one that differs is looked up
        found = use(known, keys)
    fresh = ApiKey.objects.select_related("user").get(pk=keys[2].pk)
    seen = found[2]
    assert (seen.revoked_at, seen.agent_names) == (fresh.revoked_at, fresh.agent_names)
    assert (seen.user.is_active, seen.user.first_name) == (fresh.user.is_active, fresh.user.first_name)


def test_a_key_that_was_deleted_is_none(known: KnownKeys, keys: list[ApiKey], clock: Clock) -> None:
    use(known, keys)
    ApiKey.objects.filter(pk=keys[0].pk).delete()
    clock.seconds += COMPARE_SECONDS
    with pytest.raises(ApiKey.DoesNotExist):
        known.find(keys[0].key_id)


def test_a_use_changes_nothing(
    known: KnownKeys, keys: list[ApiKey], clock: Clock, django_assert_num_queries: Any
) -> None:
    use(known, keys)
    ApiKey.objects.update(last_used_at=timezone.now())
    User.objects.update(last_login=timezone.now())
    clock.seconds += COMPARE_SECONDS
    with django_assert_num_queries(1):
        use(known, keys)


def test_keys_that_nobody_uses_are_forgotten(
    known: KnownKeys, keys: list[ApiKey], clock: Clock, django_assert_num_queries: Any
) -> None:
    use(known, keys)
    for _ in range(2):
        clock.seconds += COMPARE_SECONDS
        known.find(keys[0].key_id)
    with django_assert_num_queries(4):
        use(known, keys)


def test_what_belongs_to_the_user_is_read_again_now_and_then(
    known: KnownKeys, keys: list[ApiKey], clock: Clock
) -> None:
    team = known.find(keys[0].key_id).user.team
    type(team).objects.filter(pk=team.pk).update(name="Renamed")
    for _ in range(int(KEEP_SECONDS / COMPARE_SECONDS)):
        clock.seconds += COMPARE_SECONDS
        name = known.find(keys[0].key_id).user.team.name
    assert name == "Renamed"


def test_there_is_room_for_so_many(known: KnownKeys, keys: list[ApiKey], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_keys, "ROOM", 3)
    assert use(known, keys) == keys
    assert len(known._known) == 2


def test_forgotten_keys_are_looked_up(known: KnownKeys, keys: list[ApiKey], django_assert_num_queries: Any) -> None:
    use(known, keys)
    known.forget()
    with django_assert_num_queries(5):
        use(known, keys)
