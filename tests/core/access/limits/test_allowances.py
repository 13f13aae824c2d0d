import pytest
from django.db import IntegrityError, transaction

from core.access import api_keys
from core.access.limits.allowances import level_of, levels
from core.access.limits.subjects import Subject, subjects_of
from core.models import Allowance
from tests.factories import make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture
def key():
    return api_keys.issue(make_user())[0]


@pytest.mark.parametrize("whose", [(), ("key", "user"), ("user", "team"), ("key", "user", "team")])
def test_an_allowance_is_for_exactly_one(key, whose):
    all_of_them = {"key": key, "user": key.user, "team": key.user.team}
    with pytest.raises(IntegrityError):
        Allowance.objects.create(**{name: all_of_them[name] for name in whose})


def test_whoever_asks_counts_at_each_level_and_the_credential_has_a_request_limit(key, settings):
    settings.REQUESTS_PER_MINUTE = 42
    by_key, by_sign_in = levels(subjects_of(key.user, key)), levels(subjects_of(key.user, None))
    assert [level.subject.kind for level in by_key] == ["key", "user", "team"]
    assert [level.requests_per_minute for level in by_key] == [42, None, None]
    assert [level.subject.kind for level in by_sign_in] == ["user", "team"]
    assert [level.requests_per_minute for level in by_sign_in] == [42, None]
    assert not any(level.bounds_work for level in by_key)


def test_defaults_for_work_are_for_each_person(key, settings):
    settings.TOKENS_PER_DAY, settings.TOKENS_PER_MONTH, settings.CONCURRENT_TASKS = 1000, 9000, 2
    found = levels(subjects_of(key.user, key))
    assert [(level.tokens_per_day, level.tokens_per_month, level.concurrent_tasks) for level in found] == [
        (None, None, None),
        (1000, 9000, 2),
        (None, None, None),
    ]


def test_a_row_takes_the_place_of_defaults_where_it_says_something(key, settings):
    settings.REQUESTS_PER_MINUTE, settings.TOKENS_PER_DAY = 42, 1000
    Allowance.objects.create(key=key, tokens_per_day=7)
    Allowance.objects.create(user=key.user, requests_per_minute=5, tokens_per_month=70)
    Allowance.objects.create(team=key.user.team, concurrent_tasks=3)
    of_key, of_user, of_team = levels(subjects_of(key.user, key))
    assert (of_key.requests_per_minute, of_key.tokens_per_day) == (42, 7)
    assert (of_user.requests_per_minute, of_user.tokens_per_day, of_user.tokens_per_month) == (5, 1000, 70)
    assert (of_team.requests_per_minute, of_team.concurrent_tasks) == (None, 3)
    assert level_of(Subject("key", key.pk)) == of_key


def test_shares_of_the_queues_are_for_people_and_teams(key):
    Allowance.objects.create(user=key.user, queue_share=2.5)
    assert [level.queue_share for level in levels(subjects_of(key.user, key))] == [None, 2.5, 1]
    with pytest.raises(IntegrityError), transaction.atomic():
        Allowance.objects.create(key=key, queue_share=2)
    with pytest.raises(IntegrityError), transaction.atomic():
        Allowance.objects.create(team=key.user.team, queue_share=0)


def test_nobody_is_asked_again_until_something_changes(key, django_assert_num_queries):
    mine = subjects_of(key.user, key)
    with django_assert_num_queries(1):
        assert levels(mine) == levels(mine)
    row = Allowance.objects.create(key=key, requests_per_minute=3)
    assert levels(mine)[0].requests_per_minute == 3
    row.delete()
    assert levels(mine)[0].requests_per_minute != 3


def test_what_another_process_changed_is_seen_soon(key, wait_until):
    row = Allowance.objects.create(key=key, requests_per_minute=3)
    subject = Subject("key", key.pk)
    assert level_of(subject).requests_per_minute == 3
    Allowance.objects.filter(pk=row.pk).update(requests_per_minute=9)  # no signal tells of it
    wait_until(lambda: level_of(subject).requests_per_minute == 9, timeout_seconds=5)
