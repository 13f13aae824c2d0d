"""What the dashboard says of emails that do not arrive."""

from datetime import timedelta

import pytest
from django.utils import timezone

from core.admin import emails
from core.models import Notification, User
from tests.factories import make_notification, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def person() -> User:
    return make_user(email="ada@example.com")


def tried(person: User, *, is_sent: bool) -> Notification:
    """A notification whose email was tried."""
    notification = make_notification(person)
    notification.email_attempts, notification.emailed_at = 1, timezone.now() if is_sent else None
    notification.save()
    return notification


def titles() -> list[str]:
    return [problem.title for problem in emails.problems().problems]


def test_it_tells_of_emails_that_were_not_sent_until_one_is(person: User) -> None:
    assert titles() == []
    first = tried(person, is_sent=False)
    (problem,) = emails.problems().problems
    assert (problem.title, problem.since) == ("An email was not sent", first.created_at)
    assert "sendtestemail" in problem.detail
    tried(person, is_sent=False)
    assert titles() == ["2 emails were not sent"]
    tried(person, is_sent=True)
    assert titles() == []


def test_emails_that_nobody_is_to_get_are_no_problem(person: User) -> None:
    tried(person, is_sent=False)
    tried(make_user(email=""), is_sent=False)
    assert titles() == ["An email was not sent"]
    User.objects.update(is_active=False)
    assert titles() == []


def test_what_was_not_tried_or_long_ago_is_no_problem(person: User, time_machine) -> None:
    make_notification(person)
    assert titles() == []
    tried(person, is_sent=False)
    time_machine.move_to(timezone.now() + timedelta(hours=25))
    assert titles() == []
