"""Nobody learns who has an account: whatever is wrong, the answer is the same and costs the same work.

Work is counted, not timed: each hash of a password is one call into Argon2's library, with its parameters.
"""

import re
from typing import NamedTuple

import argon2
import pytest
from django.http import HttpResponse
from django.test import Client

from sutazai import settings as product
from tests.factories import make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

PASSWORD = "a long enough secret"
REQUEST_ID = "the-same-for-all"  # answers repeat it


class Hash(NamedTuple):
    """What one hash cost."""

    kibibytes: int
    passes: int
    lanes: int


OURS = Hash(kibibytes=19 * 1024, passes=2, lanes=1)


@pytest.fixture(autouse=True)
def hashes(settings, monkeypatch: pytest.MonkeyPatch) -> list[Hash]:
    """The product's own hashers, which the tests do without elsewhere, and what was hashed since people were made."""
    settings.PASSWORD_HASHERS = product.PASSWORD_HASHERS
    made: list[Hash] = []
    make, verify = argon2.low_level.hash_secret, argon2.low_level.verify_secret

    def noting_make(secret: bytes, salt: bytes, time_cost: int, memory_cost: int, parallelism: int, **more: object):
        made.append(Hash(memory_cost, time_cost, parallelism))
        return make(secret, salt, time_cost, memory_cost, parallelism, **more)

    def noting_verify(hashed: bytes, *arguments: object):
        costs = argon2.extract_parameters(hashed.decode())
        made.append(Hash(costs.memory_cost, costs.time_cost, costs.parallelism))
        return verify(hashed, *arguments)

    make_user(username="ada", email="ada@example.com", password=PASSWORD)
    make_user(username="off", email="off@example.com", password=PASSWORD, is_active=False)
    make_user(username="nop", email="nop@example.com")  # signs in elsewhere, has no password
    monkeypatch.setattr(argon2.low_level, "hash_secret", noting_make)
    monkeypatch.setattr(argon2._password_hasher, "verify_secret", noting_verify)
    return made


def plain(response: HttpResponse, name: str) -> tuple[int, str, list[str], str]:
    """All that an answer tells, but for what is made up anew for each and the name that was typed."""
    body = re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", response.text).replace(name, "NAME")
    return response.status_code, response.get("Location", ""), sorted(response.headers), body


def by_page(name: str, password: str) -> HttpResponse:
    return Client().post("/login", {"login": name, "password": password}, headers={"X-Request-Id": REQUEST_ID})


def by_api(name: str, password: str) -> HttpResponse:
    body = {"email": name, "password": password}
    return Client().post("/api/auth/login", body, "application/json", headers={"X-Request-Id": REQUEST_ID})


@pytest.mark.parametrize("sign_in", [by_page, by_api])
@pytest.mark.parametrize(
    "cases",
    [
        [("xyz", PASSWORD), ("ada", "wrong"), ("off", "wrong"), ("nop", "wrong")],
        [(f"{name}@example.com", "wrong") for name in ("xyz", "ada", "off", "nop")],
    ],
    ids=["names", "addresses"],
)
def test_whoever_cannot_sign_in_gets_the_same_answer_for_one_hash(sign_in, cases, hashes):
    answers = set()
    for name, password in cases:
        hashes.clear()
        status, location, headers, body = plain(sign_in(name, password), name)
        assert hashes == [OURS], name
        answers.add((status, location, *headers, body))
    assert len(answers) == 1


def test_by_the_api_the_right_password_of_a_disabled_account_is_one_more_wrong_one(hashes):
    """Where people sign in, they are told that their account is switched off, once they gave its password."""
    answers = []
    for name, password in [("off", PASSWORD), ("xyz", PASSWORD)]:
        hashes.clear()
        answers.append(plain(by_api(name, password), name))
        assert hashes == [OURS], name
    assert answers[0] == answers[1]


def test_a_right_password_costs_one_hash_too(hashes):
    for sign_in in (by_page, by_api):
        hashes.clear()
        assert sign_in("ada", PASSWORD).status_code in {200, 302}
        assert hashes == [OURS]


def test_whoever_asks_for_a_link_for_a_new_password_gets_the_same_answer_for_no_hash(settings, hashes):
    settings.EMAIL_IS_CONFIGURED = True
    answers = set()
    for name in ("xyz", "ada", "off", "nop"):
        client = Client()
        asked = client.post("/account/password/reset/", {"email": f"{name}@example.com"})
        status, location, headers, body = plain(asked, name)
        answers.add((status, location, *headers, body, plain(client.get(location), name)[3]))
    assert len(answers) == 1
    assert hashes == []
