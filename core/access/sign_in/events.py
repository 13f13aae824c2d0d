"""What follows from a sign-in, a sign-out and a changed password. `CoreConfig.ready` imports it."""

from collections.abc import Collection
from typing import Any

from allauth.account.internal.flows.login import record_authentication
from allauth.account.models import EmailAddress
from allauth.account.signals import password_changed, password_reset, password_set
from allauth.mfa.models import Authenticator
from allauth.mfa.signals import authenticator_added
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.http import HttpRequest

from core.access import known_devices
from core.access.sign_in import attempts, devices, recent
from core.models import Device, User


@receiver(user_logged_in)
def note_sign_in(request: HttpRequest, user: User, **_: Any) -> None:
    attempts.succeeded(request)
    recent.note_sign_in(request)
    devices.note(request, user)
    known_devices.note_browser(request, user)


@receiver(user_logged_out)
def forget_device(request: HttpRequest, **_: Any) -> None:
    key = request.session.session_key
    if key:
        Device.objects.filter(session_key=key).delete()
        devices.forget(key)


@receiver(post_save, sender=User)
def forget_old_addresses(instance: User, update_fields: Collection[str] | None = None, **_: Any) -> None:
    """allauth keeps addresses of its own and sends reset links to all of them; a person has the one in their row."""
    if update_fields is None or "email" in update_fields:
        EmailAddress.objects.filter(user=instance).exclude(email__iexact=instance.email).delete()


@receiver([password_changed, password_set, password_reset])
def sign_out_elsewhere(request: HttpRequest, user: User, **_: Any) -> None:
    """Whoever knew the old password is out. The session that changed it goes on under a new key."""
    devices.sign_out_others(request, user)
    if request.user == user:
        devices.note(request, user)


@receiver(authenticator_added)
def count_set_up_as_passed(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    """Setting a second factor up takes a code from it, so nobody is asked for another one right away."""
    if authenticator.type != Authenticator.Type.RECOVERY_CODES and request.user == user:
        record_authentication(
            request, user, "mfa", id=authenticator.pk, type=str(authenticator.type), reauthenticated=True
        )
