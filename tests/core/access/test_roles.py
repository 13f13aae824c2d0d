import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError

from core.models import Role, User, Verb
from core.models.roles import VERBS
from tests.factories import make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.mark.parametrize("role", Role.values)
def test_flags_and_group_follow_the_role(role):
    person = make_user(role=role)
    is_staff, is_administrator = role in {"operator", "administrator"}, role == "administrator"
    assert (person.is_staff, person.is_superuser, person.is_operator) == (is_staff, is_administrator, is_staff)
    assert list(person.groups.values_list("name", flat=True)) == [role]


def test_another_role_leaves_the_old_group_and_keeps_all_others():
    person = make_user(role=Role.ADMINISTRATOR)
    person.groups.add(Group.objects.create(name="night shift"))
    person.role = Role.VIEWER
    person.save(update_fields=["role"])
    person = User.objects.get(pk=person.pk)
    assert set(person.groups.values_list("name", flat=True)) == {"viewer", "night shift"}
    assert (person.is_staff, person.is_superuser, person.verbs) == (False, False, {Verb.READ})


def test_flags_do_not_make_a_role():
    person = make_user()
    with pytest.raises(IntegrityError):
        User.objects.filter(pk=person.pk).update(is_superuser=True)


def test_who_is_inactive_may_do_nothing():
    assert make_user(role=Role.ADMINISTRATOR, is_active=False).verbs == frozenset()


def test_operators_run_the_work_and_administrators_the_people():
    operator = make_user(role=Role.OPERATOR)
    for permission in ("agents.change_node", "agents.view_agenttask", "core.add_apikey", "core.view_maintenancerun"):
        assert operator.has_perm(permission), permission
    for permission in ("core.change_user", "auth.change_group", "core.delete_team", "core.view_signingkey"):
        assert not operator.has_perm(permission), permission
    assert make_user(role=Role.ADMINISTRATOR).has_perm("core.change_user")


def test_each_role_may_do_what_the_one_below_may():
    assert VERBS[Role.VIEWER] < VERBS[Role.USER] < VERBS[Role.OPERATOR] <= VERBS[Role.ADMINISTRATOR] == frozenset(Verb)
