import asyncio
from collections.abc import Callable

import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.utils import timezone

from core.access import api_keys, tokens, watch
from core.access.principal import Principal
from core.access.watch import Holder, Watch, void_among
from core.models import ApiKey, Role, TokenFamily, User
from tests.factories import make_operator, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


def holders_of(user: User) -> dict[str, Holder]:
    """What the person has open: by a key, by a token, in a browser."""
    client = Client()
    client.force_login(user)
    family = tokens.verify(tokens.begin(user).access)
    return {
        "key": Holder.of(Principal(user, api_keys.issue(user)[0])),
        "token": Holder.of(Principal(user, family)),
        "session": Holder.of(Principal(user), client.session.session_key),
    }


def void(holders: dict[str, Holder]) -> set[str]:
    lost = void_among(holders.values())
    return {name for name, holder in holders.items() if holder in lost}


def test_while_nothing_changes_nothing_is_lost_and_few_queries_are_asked(django_assert_max_num_queries):
    holders = holders_of(make_user())
    with django_assert_max_num_queries(4):
        assert void(holders) == set()


def test_it_survives_the_way_through_a_header():
    for holder in holders_of(make_user()).values():
        assert Holder.read(str(holder)) == holder


def switch_off(user: User) -> None:
    user.is_active = False


def demote(user: User) -> None:
    user.role = Role.USER


def change_password(user: User) -> None:
    user.set_password("another-password-123")


@pytest.mark.parametrize("change", [switch_off, demote, change_password])
def test_what_happens_to_a_person_happens_to_all_that_they_hold(change: Callable[[User], None]):
    user = make_operator(password="first-password-123")
    holders = holders_of(user)
    change(user)
    user.save()
    assert void(holders) == {"key", "token", "session"}


def test_a_credential_that_ends_takes_along_what_it_opened_and_nothing_else():
    holders = holders_of(make_user())
    ApiKey.objects.update(revoked_at=timezone.now())
    assert void(holders) == {"key"}
    TokenFamily.objects.update(revoked_at=timezone.now())
    assert void(holders) == {"key", "token"}
    Session.objects.all().delete()
    assert void(holders) == {"key", "token", "session"}


def test_a_person_who_was_deleted_holds_nothing():
    user = make_user()
    holders = holders_of(user)
    user.delete()
    assert void(holders) == {"key", "token", "session"}


@pytest.mark.django_db(transaction=True)
def test_whoever_waits_is_told_within_seconds(monkeypatch):
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.02)
    user = make_user()
    holders = holders_of(user)
    watching = Watch()

    async def hold() -> set[str]:
        waits = {asyncio.ensure_future(watching.until_void(holder)): name for name, holder in holders.items()}
        await asyncio.sleep(0)
        await asyncio.to_thread(_revoke_keys)
        done, waiting = await asyncio.wait(waits, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        for wait in waiting:
            wait.cancel()
        return {waits[wait] for wait in done}

    assert asyncio.run(hold()) == {"key"}
    assert not watching._waiting


def _revoke_keys() -> None:
    api_keys.revoke(ApiKey.objects.all())
    connection.close()
