"""People, and the teams that own what they make."""

import uuid
from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as DjangoUserManager
from django.db import models
from django.db.models.functions import Lower
from django.db.models.lookups import Exact

from core.models.base import UUIDModel
from core.models.roles import STAFF, VERBS, Role, Verb

# The team that everybody belongs to until somebody makes another; every migration makes sure that it is there.
DEFAULT_TEAM_ID = uuid.UUID("00000000-0000-7000-8000-000000000001")


class Team(UUIDModel):
    name = models.CharField(max_length=100)
    slug = models.SlugField(max_length=50, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class UserManager(DjangoUserManager["User"]):
    def create_superuser(self, *args: Any, **fields: Any) -> "User":
        return super().create_superuser(*args, **{**fields, "role": Role.ADMINISTRATOR})


class User(UUIDModel, AbstractUser):
    """A person. The role decides what they may do; Django's own flags, which its console asks, follow it."""

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="members", default=DEFAULT_TEAM_ID)
    role = models.CharField(max_length=20, choices=Role, default=Role.USER)

    objects: ClassVar[UserManager] = UserManager()

    class Meta(AbstractUser.Meta):
        ordering = ["username"]
        constraints = [
            # People sign in with their email address too. Serves that look-up as well.
            models.UniqueConstraint(
                Lower("email"),
                condition=~models.Q(email=""),
                name="one_person_per_email",
                violation_error_message="Somebody else has this email address.",
            ),
            models.CheckConstraint(
                condition=models.Q(role="administrator", is_staff=True, is_superuser=True)
                | models.Q(role="operator", is_staff=True, is_superuser=False)
                | models.Q(role__in=["viewer", "user"], is_staff=False, is_superuser=False),
                name="flags_follow_the_role",
            ),
        ]

    def save(self, *args: Any, update_fields: Iterable[str] | None = None, **kwargs: Any) -> None:
        self.is_staff = self.role in STAFF
        self.is_superuser = self.role == Role.ADMINISTRATOR
        if update_fields is not None and "role" in update_fields:
            update_fields = {*update_fields, "is_staff", "is_superuser"}
        super().save(*args, update_fields=update_fields, **kwargs)

    @property
    def verbs(self) -> frozenset[Verb]:
        """What the person may do through the API."""
        return VERBS[self.role] if self.is_active else frozenset()

    @classmethod
    def with_email(cls, address: str) -> "User | None":
        """Find whose email address it is, in whatever case it is written."""
        return cls.objects.exclude(email="").filter(Exact(Lower("email"), address.lower())).first()

    @property
    def is_operator(self) -> bool:
        """True for people who may use the console and see every team's work."""
        return self.is_active and self.role in STAFF
