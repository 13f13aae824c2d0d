"""People, and the teams that own what they make."""

import uuid
from typing import ClassVar, Self

from django.contrib.auth.models import AbstractUser, UserManager
from django.db import models

from core.models.base import UUIDModel

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


class User(UUIDModel, AbstractUser):
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="members", default=DEFAULT_TEAM_ID)

    objects: ClassVar[UserManager[Self]] = UserManager()

    class Meta(AbstractUser.Meta):
        ordering = ["username"]

    @property
    def is_operator(self) -> bool:
        """True for people who may use the console and see every team's work."""
        return self.is_active and self.is_staff
