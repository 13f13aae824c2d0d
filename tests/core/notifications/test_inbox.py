from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from core.models import Notification, NotificationPreference, Role
from core.notifications import News, inbox, notify
from tests.factories import make_user
from tests.program import PATIENCE_SECONDS

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

LINK = "/dashboard"


@pytest.fixture
def person():
    return make_user(username="ada", email="ada@example.com")


def tell(event, *people, **more):
    notify(event, [News(person.pk, "It boiled", LINK, **more) for person in people], timezone.now())


def wish(person, event, *, in_app, email):
    NotificationPreference.objects.create(person=person, event=event.name, in_app=in_app, email=email)


def test_each_is_told_and_sees_ones_own_alone(event, person):
    other = make_user()
    tell(event, person, other, body="At noon.")
    told = inbox.of(person).get()
    assert (told.person, told.event, told.title, told.body, told.link) == (
        person,
        "kettle-boiled",
        "It boiled",
        "At noon.",
        LINK,
    )
    assert (told.read_at, told.count, told.email_due_at) == (None, 1, None)
    assert inbox.of(other).get() != told


def test_who_may_not_get_the_event_or_is_switched_off_is_not_told(event, person):
    only_operators = replace(event, roles=[Role.OPERATOR])
    tell(only_operators, person)
    tell(event, make_user(is_active=False))
    assert not Notification.objects.exists()
    tell(only_operators, make_user(role=Role.OPERATOR))
    assert Notification.objects.count() == 1


@pytest.mark.parametrize("in_app", [True, False])
@pytest.mark.parametrize("email", [True, False])
def test_a_preference_opens_and_shuts_each_channel(event, person, settings, in_app, email):
    settings.EMAIL_IS_CONFIGURED = True
    wish(person, event, in_app=in_app, email=email)
    tell(event, person)
    assert inbox.of(person).exists() == in_app
    assert Notification.objects.filter(email_due_at__isnull=False).exists() == email
    assert Notification.objects.exists() == (in_app or email)


def test_anothers_preference_and_one_for_another_event_change_nothing(event, person):
    wish(make_user(), event, in_app=False, email=False)
    wish(person, replace(event, name="other"), in_app=False, email=False)
    tell(event, person)
    assert inbox.of(person).count() == 1


@pytest.mark.parametrize(("is_configured", "address"), [(False, "ada@example.com"), (True, "")])
def test_no_email_is_due_where_none_can_be_sent(event, settings, is_configured, address):
    settings.EMAIL_IS_CONFIGURED = is_configured
    person = make_user(email=address)
    tell(replace(event, email=True), person)
    assert inbox.of(person).get().email_due_at is None


def test_a_rollback_leaves_no_notification_and_no_email(event, person, settings, django_capture_on_commit_callbacks):
    settings.EMAIL_IS_CONFIGURED = True
    with django_capture_on_commit_callbacks() as callbacks:
        with transaction.atomic():
            tell(replace(event, email=True), person)
            assert Notification.objects.count() == 1
            transaction.set_rollback(True)
        assert not Notification.objects.exists()
    assert callbacks == []


def test_only_one_with_an_email_is_announced_after_the_commit(
    event, person, settings, django_capture_on_commit_callbacks
):
    settings.EMAIL_IS_CONFIGURED = True
    with django_capture_on_commit_callbacks() as callbacks:
        tell(event, person)
    assert callbacks == []
    with django_capture_on_commit_callbacks() as callbacks:
        tell(replace(event, email=True), person)
    assert len(callbacks) == 1


def test_unread_ones_with_one_key_are_one_with_a_count(event, person):
    for number in range(3):
        tell(event, person, collapse_key="kettle 1", body=f"Number {number}.")
    tell(event, person, collapse_key="kettle 2")
    tell(event, person)
    tell(event, person)
    told = inbox.of(person).get(collapse_key="kettle 1")
    assert (told.count, told.body) == (3, "Number 2.")
    assert inbox.of(person).count() == 4


def test_those_told_at_once_collapse_too(event, person):
    other = make_user()
    news = [News(person.pk, "It boiled", LINK, f"Number {n}.", collapse_key="kettle") for n in range(3)]
    notify(event, [*news, News(other.pk, "It boiled", LINK, collapse_key="kettle")], timezone.now())
    assert (inbox.of(person).get().count, inbox.of(person).get().body) == (3, "Number 2.")
    assert inbox.of(other).get().count == 1


def test_after_one_was_read_the_next_is_news_again(event, person):
    tell(event, person, collapse_key="kettle")
    inbox.mark_read(inbox.of(person).get())
    tell(event, person, collapse_key="kettle")
    assert [row.count for row in inbox.of(person)] == [1, 1]
    assert inbox.unread(person).count() == 1


def test_a_storm_is_one_email(event, person, settings, django_capture_on_commit_callbacks):
    settings.EMAIL_IS_CONFIGURED = True
    with django_capture_on_commit_callbacks() as callbacks:
        for _ in range(5):
            tell(replace(event, email=True), person, collapse_key="kettle")
    assert len(callbacks) == 1
    assert Notification.objects.filter(email_due_at__isnull=False).count() == 1


def test_who_switched_the_list_off_sees_no_count_rise(event, person, settings):
    """What was told before stays as it is; the email's row is another one."""
    settings.EMAIL_IS_CONFIGURED = True
    tell(event, person, collapse_key="kettle")
    wish(person, event, in_app=False, email=True)
    tell(event, person, collapse_key="kettle")
    assert inbox.of(person).get().count == 1
    assert Notification.objects.get(in_app=False).email_due_at


def test_telling_many_costs_as_much_as_telling_one(event, django_assert_num_queries):
    people = [make_user() for _ in range(30)]
    for crowd in (people[:1], people):
        with django_assert_num_queries(2):
            tell(event, *crowd)


@pytest.mark.django_db(transaction=True)
def test_what_many_count_up_at_once_is_counted_right(event, person):
    others = [make_user() for _ in range(3)]

    def storm(number):
        crowd = [person, *others]
        try:
            tell(event, *(crowd if number % 2 else crowd[::-1]), collapse_key="kettle")
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(storm, range(24)))
    assert set(Notification.objects.values_list("count", flat=True)) == {24}
    assert Notification.objects.count() == 4


def test_all_are_marked_read_but_nobody_elses(event, person):
    other = make_user()
    tell(event, person, other)
    tell(event, person)
    assert inbox.mark_all_read(person) == 2
    assert inbox.mark_all_read(person) == 0
    assert not inbox.unread(person).exists()
    assert inbox.unread(other).count() == 1


@pytest.mark.django_db(transaction=True)
def test_nobody_needs_a_transaction_to_mark_all_read(event, person):
    tell(event, person)
    assert inbox.mark_all_read(person) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="on SQLite one writes at a time")
def test_what_is_counted_up_at_this_very_moment_stays_unread(event, person):
    tell(event, person, collapse_key="kettle")
    tell(event, person)
    with transaction.atomic(), ThreadPoolExecutor(1) as other:
        tell(event, person, collapse_key="kettle")

        def mark():
            try:
                return inbox.mark_all_read(person)
            finally:
                connection.close()

        assert other.submit(mark).result(PATIENCE_SECONDS) == 1
    assert inbox.unread(person).get().count == 2


def test_the_first_reading_is_the_one_that_counts(event, person):
    tell(event, person)
    told = inbox.of(person).get()
    inbox.mark_read(told)
    first = inbox.of(person).get().read_at
    assert told.read_at == first
    inbox.mark_read(told)
    assert inbox.of(person).get().read_at == first


def test_texts_of_any_length_and_with_any_character_are_taken(event, person):
    notify(event, [News(person.pk, "x" * 1000, LINK, "a\x00b" * 1000)], timezone.now())
    told = inbox.of(person).get()
    assert (len(told.title), len(told.body)) == (200, 500)


@pytest.mark.parametrize("link", ["https://evil.example", "//evil.example/", "", "dashboard"])
def test_no_link_leads_outside(event, person, link):
    with pytest.raises(IntegrityError), transaction.atomic():
        notify(event, [News(person.pk, "It boiled", link)], timezone.now())
