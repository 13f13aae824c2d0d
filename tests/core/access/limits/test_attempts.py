from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from core.access.limits import attempts
from core.access.limits.refusals import TooManyAttempts

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture(autouse=True)
def few_tries(settings):
    settings.SIGN_IN_TRIES_PER_ACCOUNT = 3
    settings.SIGN_IN_TRIES_PER_ADDRESS = 5
    settings.SIGN_IN_WINDOW_SECONDS = 300


def passes(account="ada", address="192.0.2.1"):
    try:
        attempts.begin(account, address)
    except TooManyAttempts:
        return False
    return True


def test_an_account_is_tried_so_often_from_wherever():
    assert [passes(address=f"192.0.2.{number}") for number in range(5)] == [True, True, True, False, False]
    assert passes("grace")


def test_an_address_tries_so_often_at_whatever():
    assert [passes(f"user-{number}") for number in range(7)] == [True] * 5 + [False] * 2
    assert passes("user-7", "192.0.2.2")


@pytest.mark.parametrize("spelling", ["ADA", " ada", "Ada "])
def test_a_name_in_another_spelling_is_the_same_account(spelling):
    assert [passes() for _ in range(3)] == [True] * 3
    assert not passes(spelling, "192.0.2.9")


def test_addresses_of_one_network_of_version_6_are_one():
    addresses = [f"2001:db8::{number:x}" for number in range(1, 8)]
    assert [passes(address, address) for address in addresses] == [True] * 5 + [False] * 2
    assert passes("other", "2001:db8:0:1::1")
    assert passes("mapped", "::ffff:192.0.2.1")


def test_only_wrong_passwords_use_a_limit_up():
    for _ in range(20):
        assert passes()
        attempts.succeeded("ada", "192.0.2.1")
    assert [passes() for _ in range(4)] == [True, True, True, False]


def test_after_the_wait_that_was_told_the_next_try_passes(hand_clock):
    while passes():
        hand_clock.advance(7.3)
    with pytest.raises(TooManyAttempts) as refused:
        attempts.begin("ada", "192.0.2.1")
    wait = refused.value.retry_after_seconds
    hand_clock.advance(wait - 1)
    assert not passes()
    hand_clock.advance(1)
    assert passes()


@pytest.mark.django_db(transaction=True)
def test_fifty_tries_at_once_are_no_more_than_fifty_in_a_row(settings):
    settings.SIGN_IN_TRIES_PER_ACCOUNT = 10
    settings.SIGN_IN_TRIES_PER_ADDRESS = 1000

    def attempt(_):
        try:
            return passes()
        finally:
            connection.close()

    with ThreadPoolExecutor(25) as pool:
        assert sum(pool.map(attempt, range(50))) == 10
