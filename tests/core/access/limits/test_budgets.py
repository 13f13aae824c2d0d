import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from django.db import connection, transaction

from core.access.limits.allowances import Level
from core.access.limits.budgets import Book, Charge, Settlement, Used, seconds_left_of, settle, tokens_used
from core.access.limits.refusals import TokenBudgetExhausted, TooManyTasks
from core.access.limits.subjects import Subject

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
USER, TEAM = Subject("user", uuid.uuid4()), Subject("team", uuid.uuid4())


def charge(tokens, *, user=None, team=None, month=None, tasks=None):
    """A charge for a user and a team with these budgets of tokens a day; a month's and of tasks are the user's."""
    return Charge((Level(USER, None, user, month, tasks), Level(TEAM, None, team, None, None)), tokens)


def no_tasks(_):
    return {}


def reserve(*charges, count_tasks=no_tasks, now=NOW):
    """Reserve in one transaction; tells for each charge what was reserved, or why not."""
    with transaction.atomic():
        book, answers = Book(charges, now, count_tasks), []
        for item in charges:
            try:
                answers.append(book.reserve(item))
            except (TokenBudgetExhausted, TooManyTasks) as refusal:
                answers.append(refusal.code)
        book.write()
    return answers


def used():
    """What is counted for the user and the team on the day."""
    found = tokens_used([USER, TEAM], NOW.date())
    return tuple(found.get(subject, Used()).in_day for subject in (USER, TEAM))


def test_what_is_reserved_counts_for_everybody_concerned():
    assert reserve(charge(30, user=100)) == [30]
    assert used() == (30, 30)


def test_a_budget_is_used_to_its_last_token_and_no_further():
    assert reserve(*[charge(30, user=60)] * 3) == [30, 30, "token-budget-exhausted"]
    assert reserve(charge(1, user=60)) == ["token-budget-exhausted"]
    assert used() == (60, 60)


def test_the_tightest_of_all_budgets_holds():
    assert reserve(charge(30, user=100, team=50)) == [30]
    with pytest.raises(TokenBudgetExhausted) as refused, transaction.atomic():
        Book([charge(30, user=100, team=50)], NOW, no_tasks).reserve(charge(30, user=100, team=50))
    assert refused.value.detail == "Of the 50 tokens a day for this team, 20 are left; about 30 are needed."
    assert refused.value.retry_after_seconds == 12 * 3600 + 1


def test_a_month_is_the_sum_of_its_days():
    for day in (1, 2, 31):
        assert reserve(charge(30, month=90), now=datetime(2030, 1, day, 23, 59, 59, tzinfo=UTC)) == [30]
    assert reserve(charge(1, month=90)) == ["token-budget-exhausted"]
    assert reserve(charge(90, month=90), now=datetime(2030, 2, 1, tzinfo=UTC)) == [90]
    assert tokens_used([USER], datetime(2030, 1, 31, tzinfo=UTC).date()) == {USER: Used(in_day=30, in_month=90)}
    assert tokens_used([USER], datetime(2030, 2, 28, tzinfo=UTC).date()) == {USER: Used(in_day=0, in_month=90)}


def test_within_one_batch_a_month_is_used_to_its_last_token_and_no_further():
    assert reserve(*[charge(30, month=60)] * 3) == [30, 30, "token-budget-exhausted"]


def test_who_has_neither_day_nor_month_left_is_told_the_longer_wait():
    for budgets, period, seconds in [
        ({"user": 10, "month": 1000}, "day", 12 * 3600 + 1),
        ({"user": 1000, "month": 10}, "month", 30 * 24 * 3600 + 12 * 3600 + 1),
        ({"user": 10, "month": 10}, "month", 30 * 24 * 3600 + 12 * 3600 + 1),
    ]:
        with pytest.raises(TokenBudgetExhausted) as refused, transaction.atomic():
            Book([charge(30, **budgets)], NOW, no_tasks).reserve(charge(30, **budgets))
        detail = f"Of the 10 tokens a {period} for this user, 10 are left; about 30 are needed."
        assert (refused.value.detail, refused.value.retry_after_seconds) == (detail, seconds)


def test_what_is_settled_later_counts_for_the_month_in_which_it_was_reserved():
    reserve(charge(30, month=100), now=datetime(2030, 1, 31, 23, tzinfo=UTC))
    with transaction.atomic():
        settle([Settlement((USER, TEAM), datetime(2030, 1, 31, tzinfo=UTC).date(), reserved=30, used=12)])
    assert tokens_used([USER], NOW.date())[USER].in_month == 12
    assert tokens_used([USER], datetime(2030, 2, 1, tzinfo=UTC).date()) == {}


def test_budgets_of_days_and_months_cost_one_look(django_assert_num_queries):
    charges = [charge(30, user=100, team=100, month=100)] * 2
    is_locked = connection.vendor == "postgresql"
    with transaction.atomic(), django_assert_num_queries(1 + is_locked):
        book = Book(charges, NOW, no_tasks)
        for item in charges:
            book.reserve(item)


def test_without_a_budget_nothing_is_counted():
    assert reserve(charge(30), charge(0, tasks=5)) == [None, None]
    assert used() == (0, 0)


def test_a_settlement_takes_the_place_of_its_reservation():
    reserve(charge(30, user=100), charge(20, user=100))
    with transaction.atomic():
        settle(
            [
                Settlement((USER, TEAM), NOW.date(), reserved=30, used=12),
                Settlement((USER, TEAM), NOW.date(), reserved=20, used=45),
            ]
        )
    assert used() == (57, 57)


def test_tasks_at_a_time_are_those_that_are_there_and_those_that_come():
    tasks = [charge(0, tasks=3)] * 3
    assert reserve(*tasks, count_tasks=lambda _: {USER: 1}) == [None, None, "too-many-tasks"]
    assert reserve(*tasks, count_tasks=lambda _: {USER: 3}) == ["too-many-tasks"] * 3


def test_a_day_ends_at_midnight_and_a_month_with_its_last_day():
    assert seconds_left_of("day", datetime(2030, 1, 1, 23, 59, 59, 500_000, tzinfo=UTC)) == 1
    assert seconds_left_of("day", datetime(2030, 1, 2, tzinfo=UTC)) == 24 * 3600 + 1
    assert seconds_left_of("month", datetime(2030, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC)) == 1
    assert seconds_left_of("month", datetime(2028, 2, 28, tzinfo=UTC)) == 2 * 24 * 3600 + 1


@pytest.mark.django_db(transaction=True)
def test_many_at_once_get_what_is_there_and_no_more():
    """Users of one team, in either order: nobody waits for somebody who waits for them."""
    other = Subject("user", uuid.uuid4())

    def ask(number):
        user = USER if number % 2 else other
        levels = [Level(user, None, 1000, None, None), Level(TEAM, None, None, 100, None)]
        try:
            done = reserve(Charge(tuple(levels if number % 3 else levels[::-1]), 10))
            with transaction.atomic():
                settle([Settlement(tuple(level.subject for level in levels), NOW.date(), 10, 10) for _ in done])
        finally:
            connection.close()
        return done

    with ThreadPoolExecutor(20) as pool:
        answers = [answer for found in pool.map(ask, range(50)) for answer in found]
    assert answers.count(10) == 10
    assert tokens_used([TEAM], NOW.date()) == {TEAM: Used(in_day=100, in_month=100)}
