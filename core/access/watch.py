"""Ends what stays open when its credential ends: streams outlive the look at their credential by hours.

A view notes with whose right a stream is opened (`Holder`). One thread per process asks every two seconds which of the
holders have lost it: the person is inactive, has another role or another password, the key or sign-in was revoked.
"""

import asyncio
import functools
import threading
import time
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass

from django.contrib.sessions.models import Session
from django.utils import timezone

from core.access import tokens
from core.access.principal import KEY, SESSION, TOKEN, Principal
from core.models import ApiKey, TokenFamily, User
from core.ops.threads import start_endless

LOOK_SECONDS = 2.0
HASH_CHARACTERS = 16


@dataclass(frozen=True)
class Holder:
    """Whose right something is open by: a person as they were, and their credential."""

    user_id: str
    role: str
    auth_hash: str
    kind: str
    credential_id: str

    @classmethod
    def of(cls, principal: Principal, session_key: str = "") -> "Holder":
        user, credential = principal.user, principal.credential
        credential_id = str(credential.pk) if credential else session_key
        return cls(str(user.pk), user.role, _short(user), principal.kind, credential_id)

    @classmethod
    def read(cls, text: str) -> "Holder":
        return cls(*text.split(" "))

    def __str__(self) -> str:
        return f"{self.user_id} {self.role} {self.auth_hash} {self.kind} {self.credential_id}"


def _short(user: User) -> str:
    return _short_of(user.password)


@functools.lru_cache(maxsize=1024)
def _short_of(password: str) -> str:
    return User(password=password).get_session_auth_hash()[:HASH_CHARACTERS]


class Watch:
    """Watches over the holders of this process."""

    def __init__(self) -> None:
        self._waiting: dict[Holder, set[asyncio.Future[None]]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    async def until_void(self, holder: Holder) -> None:
        """Return when the holder has lost its right."""
        losing = self.begin(holder)
        try:
            await losing
        finally:
            self.end(holder, losing)

    def begin(self, holder: Holder) -> "asyncio.Future[None]":
        """Watch over a holder until `end`. The future is done once it has lost its right."""
        losing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._changed:
            self._waiting.setdefault(holder, set()).add(losing)
            if self._thread is None:
                self._thread = start_endless("access-watch", self._round)
            if len(self._waiting) == 1:
                self._changed.notify_all()
        return losing

    def end(self, holder: Holder, losing: "asyncio.Future[None]") -> None:
        with self._changed:
            same = self._waiting.get(holder, set())
            same.discard(losing)
            if not same:
                self._waiting.pop(holder, None)

    def _round(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting))
            holders = list(self._waiting)
        void = void_among(holders)
        with self._changed:
            for future in (future for holder in void for future in self._waiting.get(holder, ())):
                future.get_loop().call_soon_threadsafe(_finish, future)
        time.sleep(LOOK_SECONDS)


def _finish(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def void_among(holders: Iterable[Holder]) -> set[Holder]:
    """Find the holders that have lost their right, in four queries however many there are."""
    holders = set(holders)
    now = timezone.now()
    people = {str(user.pk): user for user in User.objects.filter(pk__in={holder.user_id for holder in holders})}
    by_kind = {kind: {item.credential_id for item in holders if item.kind == kind} for kind in (KEY, TOKEN, SESSION)}
    keys = ApiKey.objects.filter(pk__in=by_kind[KEY]).select_related("user")
    families = TokenFamily.objects.filter(pk__in=by_kind[TOKEN]).select_related("user")
    sessions = Session.objects.filter(pk__in=by_kind[SESSION], expire_date__gt=now)
    alive = {
        *((KEY, str(key.pk)) for key in keys if key.works_at(now)),
        *((TOKEN, str(family.pk)) for family in families if tokens.is_alive(family, now)),
        *((SESSION, key) for key in sessions.values_list("pk", flat=True)),
    }
    return {
        holder
        for holder in holders
        if (holder.kind, holder.credential_id) not in alive or not _is_same(people.get(holder.user_id), holder)
    }


def _is_same(user: User | None, holder: Holder) -> bool:
    return user is not None and user.is_active and user.role == holder.role and _short(user) == holder.auth_hash


watch = Watch()


async def while_wanted(work: Awaitable[None], holder: Holder, leaving: Awaitable[None] | None = None) -> bool:
    """Do work until it is done, its client leaves, or the holder has lost the right to it; False in the last case.

    leaving: returns when the client has gone; None where the work itself notices that.
    """
    working, losing = asyncio.ensure_future(work), asyncio.ensure_future(watch.until_void(holder))
    ends = {losing} if leaving is None else {losing, asyncio.ensure_future(leaving)}
    try:
        await asyncio.wait({working, *ends}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return working.done() or not losing.done()
    finally:
        for part in (working, *ends):
            part.cancel()
