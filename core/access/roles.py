"""Roles as Django's groups, so that its console knows them. The table stands in `core.models.roles`."""

from typing import Any

from django.apps import AppConfig, apps
from django.contrib.auth.models import Group, Permission
from django.db.models.signals import post_save

from core.models import Role, User
from core.models.roles import ADMINISTRATORS_ONLY


def sync_groups(app_config: AppConfig, using: str, **_: Any) -> None:
    """Make a group of each role, with its permissions: after each migration, once all of these are there."""
    if app_config is not [config for config in apps.get_app_configs() if config.models_module is not None][-1]:
        return
    permissions = Permission.objects.using(using).select_related("content_type")
    for role in Role.values:
        group, _created = Group.objects.using(using).get_or_create(name=role)
        wanted = {permission.pk for permission in permissions if _has(role, permission)}
        if wanted != set(group.permissions.values_list("pk", flat=True)):
            group.permissions.set(wanted)


def _has(role: str, permission: Permission) -> bool:
    model = f"{permission.content_type.app_label}.{permission.content_type.model}"
    return role == Role.ADMINISTRATOR or (role == Role.OPERATOR and model not in ADMINISTRATORS_ONLY)


def join_group(user: User) -> None:
    """Have a person be in the group of their role, and in that of no other role."""
    others = user.groups.filter(name__in=Role.values).exclude(name=user.role)
    user.groups.remove(*others)
    user.groups.add(Group.objects.get_or_create(name=user.role)[0])


def _follow_the_role(instance: User, update_fields: frozenset[str] | None, raw: bool, **_: Any) -> None:
    if not raw and (update_fields is None or "role" in update_fields):
        join_group(instance)


post_save.connect(_follow_the_role, sender=User)
