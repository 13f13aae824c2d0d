"""Signing in and out, which Django tells by signals: whichever page did it need not know of the log."""

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db.models import Q
from django.dispatch import receiver

from core.audit.denials import denied
from core.audit.entries import Subject, record, type_of
from core.models import User

SIGN_IN_FAILED = "sign-in.failed"


@receiver(user_logged_in)
def note_sign_in(user: User, **_: Any) -> None:
    record("sign-in.succeeded", target=user, actor=user)


@receiver(user_logged_out)
def note_sign_out(user: User | None, **_: Any) -> None:
    if user is not None:
        record("sign-out.succeeded", target=user, actor=user)


@receiver(user_login_failed)
def note_failure(credentials: Mapping[str, Any], **_: Any) -> None:
    """Name who was meant, if there is such a person: people type passwords into the wrong field."""
    names = (User.USERNAME_FIELD, "username", "email")
    given = next((str(credentials[name]) for name in names if credentials.get(name)), "")
    person = _person(given) if given and "\x00" not in given else None
    subject = Subject.of(person) if person else Subject(type_of(User), name="(no such person)")
    denied(subject, action=SIGN_IN_FAILED)


def _person(given: str) -> User | None:
    return User.objects.filter(Q(username=given) | Q(email=given)).first()
