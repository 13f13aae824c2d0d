"""Who a name and a password stand for."""

from typing import Any

from allauth.account.auth_backends import AuthenticationBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.http import HttpRequest

from core.models import User


class SignInBackend(AuthenticationBackend):
    """Takes a user name or an email address, and hashes one password whatever it finds.

    allauth's own hashes twice for an email address that it knows, so that the time would tell.
    """

    def _authenticate(self, request: HttpRequest | None, **credentials: Any) -> AbstractBaseUser | None:
        login = credentials.get("username") or credentials.get("email") or ""
        user: AbstractBaseUser | None = self._check_password(person(login), credentials["password"])
        return user


def person(login: str) -> User | None:
    """Find somebody by email address or user name; an address is never shadowed by a user name that looks like it."""
    found = User.with_email(login) if "@" in login else None
    return found or User.objects.filter(username=login).first()
