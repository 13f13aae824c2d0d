import pytest
from django.contrib.auth import authenticate
from django.utils.module_loading import autodiscover_modules

from core.models import User
from core.ops import first_run

pytestmark = pytest.mark.django_db


def test_the_first_operator_gets_a_password_that_works(settings):
    settings.OPERATOR_PASSWORD = ""

    [line] = first_run.ensure_operator()

    password = line.split("password ")[1].split()[0]
    operator = authenticate(username="operator", password=password)
    assert operator is not None
    assert operator.is_superuser


def test_a_given_password_is_used_and_never_shown(settings):
    settings.OPERATOR_PASSWORD = "correct horse battery"

    [line] = first_run.ensure_operator()

    assert authenticate(username="operator", password="correct horse battery") is not None
    assert "horse" not in line


def test_a_second_start_changes_nobody(settings):
    first_run.ensure_operator()
    before = User.objects.values_list("username", "password")

    settings.OPERATOR_PASSWORD = "another password"

    assert first_run.ensure_operator() == []
    assert list(User.objects.values_list("username", "password")) == list(before)


def test_where_nobody_can_use_the_console_any_more_there_is_a_first_operator_again():
    User.objects.create_user("visitor")
    User.objects.create_superuser("retired", is_active=False)

    assert first_run.ensure_operator() != []


def test_steps_run_in_order_and_report(monkeypatch):
    autodiscover_modules("first_run")  # the applications' own steps, so that none comes later
    monkeypatch.setattr(first_run, "_steps", {})
    first_run.step("one")(lambda: ["1"])
    first_run.step("two")(list)
    first_run.step("three")(lambda: ["2", "3"])

    assert first_run.run_all() == ["1", "2", "3"]
