"""Invitations: making them, recognising their links, and turning them into accounts."""

import hashlib
import secrets
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from core.exceptions import Refused
from core.models import Invitation, User

TOKEN_BYTES = 32
SESSION_KEY = "invitation"


class InvitationGone(Refused):
    """The invitation was used, revoked or has expired. Ask for another."""

    status = 410
    code = "invitation-gone"
    title = "This invitation cannot be used any more"


def invite(*, email: str, role: str, by: User) -> tuple[Invitation, str]:
    """Make an invitation; returns it with its token, which can never be shown again."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    invitation = Invitation.objects.create(
        email=email,
        role=role,
        token_hash=_hash(token),
        invited_by=by,
        expires_at=timezone.now() + timedelta(days=settings.INVITATION_DAYS),
    )
    return invitation, token


def revoke(invitations: QuerySet[Invitation]) -> int:
    """Revoke those of these invitations that could still be accepted; returns how many."""
    return invitations.open().update(revoked_at=timezone.now())  # type: ignore[attr-defined, no-any-return]


def find(token: str) -> Invitation | None:
    """Find the open invitation that a link's token stands for."""
    return Invitation.objects.open().filter(token_hash=_hash(token)).first()


def remember(request: HttpRequest, invitation: Invitation) -> None:
    """Keep in the session which invitation's link was opened, so that the token leaves the address bar."""
    request.session[SESSION_KEY] = str(invitation.pk)


def of_session(request: HttpRequest) -> Invitation | None:
    """The open invitation whose link this browser has opened."""
    key = request.session.get(SESSION_KEY)
    return Invitation.objects.open().filter(pk=key).first() if key else None


def accept(invitation: Invitation, user: User) -> None:
    """Use an invitation up for a new account, and give the account what it promises; call it in a transaction.

    Raises InvitationGone if somebody was faster.
    """
    used = Invitation.objects.open().filter(pk=invitation.pk).update(used_at=timezone.now(), used_by=user)
    if not used:
        raise InvitationGone
    apply_role(user, invitation.role)


@transaction.atomic
def make_account(invitation: Invitation, *, username: str, password: str) -> User:
    """Make the account that an invitation promises. Raises InvitationGone."""
    user = User.objects.create_user(username, invitation.email, password)
    accept(invitation, user)
    return user


def apply_role(user: User, role: str) -> None:
    """Give a new account a role. role: one of Invitation.Role."""
    user.role = role
    user.save(update_fields=["role"])


def _hash(token: str) -> str:
    """SHA-256 suffices: a token has 256 random bits."""
    return hashlib.sha256(token.encode()).hexdigest()
