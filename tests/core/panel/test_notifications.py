import uuid

import pytest
from django.test import Client

from core.models import NotificationPreference, Role, User
from core.notifications import Event, events, inbox
from core.panel import notifications
from tests.factories import make_notification, make_operator, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

PATH = "/notifications"
EVENT = Event("kettle-boiled", "Kettle", "The kettle boiled.")


@pytest.fixture(autouse=True)
def kettle(monkeypatch):
    monkeypatch.setitem(events._events, EVENT.name, EVENT)


@pytest.fixture
def person() -> User:
    return make_user(username="ada")


@pytest.fixture
def browser(person: User) -> Client:
    client = Client()
    client.force_login(person)
    return client


def test_without_news_the_page_says_what_will_stand_there(browser):
    page = browser.get(PATH).text
    assert "Nothing to tell you" in page
    assert "Kettle, New sign-in, Task failed." in page
    assert "Mark all read" not in page


def test_news_are_listed_as_text_and_others_are_not(browser, person):
    make_notification(person, "<b>It</b> boiled", body="At <noon>.", count=2)
    make_notification(make_user(), "Another's")
    page = browser.get(f"{PATH}/")
    assert "&lt;b&gt;It&lt;/b&gt; boiled" in page.text
    assert "At &lt;noon&gt;." in page.text
    assert "2 times" in page.text
    assert "Another" not in page.text
    assert "no-store" in page["Cache-Control"]


def test_one_is_marked_read_and_another_stays(browser, person):
    first, second = make_notification(person, "first"), make_notification(person, "second")
    page = browser.post(f"{PATH}/{first.pk}/read/", follow=True).text
    assert page.count("Unread</span>") == 1
    assert list(inbox.unread(person)) == [second]
    assert "first" not in browser.get(f"{PATH}?unread").text


def test_all_are_marked_read(browser, person):
    make_notification(person)
    other = make_notification(make_user())
    assert "Mark all read" in browser.get(PATH).text
    page = browser.post(f"{PATH}/read/", follow=True).text
    assert "Mark all read" not in page
    assert "Nothing is unread" in browser.get(f"{PATH}?unread").text
    other.refresh_from_db()
    assert other.read_at is None


def test_opening_one_marks_it_read_and_leads_to_what_it_is_about(browser, person):
    response = browser.post(f"{PATH}/{make_notification(person).pk}/open/")
    assert (response.status_code, response["Location"]) == (302, "/account/")
    assert not inbox.unread(person).exists()


@pytest.mark.parametrize("action", ["read", "open"])
def test_anothers_is_not_there(browser, action):
    told = make_notification(make_user())
    assert browser.post(f"{PATH}/{told.pk}/{action}/").status_code == 404
    assert browser.post(f"{PATH}/{uuid.uuid4()}/{action}/").status_code == 404
    told.refresh_from_db()
    assert told.read_at is None


@pytest.mark.parametrize("path", ["read/", "{}/read/", "{}/open/"])
def test_changes_need_a_post_and_the_csrf_token(person, path):
    client = Client(enforce_csrf_checks=True)
    client.force_login(person)
    address = f"{PATH}/{path.format(make_notification(person).pk)}"
    assert client.get(address).status_code == 405
    assert client.post(address).status_code == 403
    assert inbox.unread(person).exists()


@pytest.mark.parametrize("path", ["", "/unread/"])
def test_strangers_are_sent_to_sign_in(path):
    response = Client().get(f"{PATH}{path}")
    assert response.status_code == 302
    assert response["Location"].startswith("/login?next=")


def test_older_ones_are_a_page_further_on(browser, person, monkeypatch):
    monkeypatch.setattr(notifications, "SHOWN", 2)
    for title in ("first", "second", "third"):
        make_notification(person, title)
    newest = browser.get(PATH)
    assert [row.title for row in newest.context["notifications"]] == ["third", "second"]
    older = browser.get(f"{PATH}?before={newest.context['older']}")
    assert [row.title for row in older.context["notifications"]] == ["first"]
    assert older.context["older"] is None


@pytest.mark.parametrize("before", ["nonsense", "", "%00", "0" * 32])
def test_a_place_that_makes_no_sense_does_no_harm(browser, person, before):
    make_notification(person)
    assert browser.get(f"{PATH}?before={before}").status_code == 200


# The bell


def test_the_bell_counts_what_is_unread(browser, person):
    page = browser.get("/dashboard").text
    assert 'id="bell-count" hidden' in page
    for _ in range(3):
        make_notification(person)
    for path in ("/dashboard", "/settings", PATH, "/account/"):
        page = browser.get(path).text
        assert '<span class="c-count" id="bell-count"><span>3</span>' in page, path
    response = browser.get(f"{PATH}/unread/")
    assert response.json() == {"unread": 3}
    assert "no-store" in response["Cache-Control"]


def test_the_bell_rings_in_the_console_too():
    operator = make_operator()
    make_notification(operator)
    client = Client()
    client.force_login(operator)
    for path in ("/admin/", "/admin/agents/agent/"):
        assert '<span class="c-count" id="bell-count"><span>1</span>' in client.get(path).text, path


def test_more_than_fit_are_told_as_many(browser, person):
    for _ in range(101):
        make_notification(person)
    assert "<span>99+</span>" in browser.get("/dashboard").text


# What one is told of


def choose(browser, **channels):
    return browser.post("/settings/notifications/", channels, follow=True).text


def box(page, channel, event="kettle-boiled"):
    """The part of the page that draws a checkbox."""
    return page.split(f'name="{channel}" value="{event}"')[1].split(">")[0]


def test_the_choice_is_shown_and_changed_without_a_script(browser, person, settings):
    settings.EMAIL_IS_CONFIGURED = True
    page = browser.get("/settings").text
    assert "checked" in box(page, "in_app")
    assert "checked" not in box(page, "email")
    page = choose(browser, email=["kettle-boiled", "new-sign-in"], in_app=["new-sign-in", "task-failed"])
    assert "Saved." in page
    assert "checked" not in box(page, "in_app")
    assert "checked" in box(page, "email")
    assert NotificationPreference.objects.values_list("event", "in_app", "email").get() == (EVENT.name, False, True)


def test_without_email_its_column_says_so_and_keeps_what_was_chosen(browser, person):
    page = browser.get("/settings").text
    assert "This server cannot send email" in page
    assert "disabled" in box(page, "email", "new-sign-in")
    choose(browser, in_app=["kettle-boiled", "new-sign-in", "task-failed"])
    assert not NotificationPreference.objects.exists()


def test_who_has_no_address_is_told_to_add_one(browser, settings):
    settings.EMAIL_IS_CONFIGURED = True
    assert "You have no email address." in browser.get("/settings").text


def test_viewers_are_not_asked_about_tasks():
    client = Client()
    client.force_login(make_user(role=Role.VIEWER))
    page = client.get("/settings").text
    assert 'value="task-failed"' not in page
    assert 'value="new-sign-in"' in page


def test_an_event_that_is_not_there_changes_nothing(browser):
    assert "Nothing was saved" in choose(browser, in_app=["kettle-boiled", "unknown"])
    assert not NotificationPreference.objects.exists()


def test_the_choice_needs_a_post_and_the_csrf_token(person):
    client = Client(enforce_csrf_checks=True)
    client.force_login(person)
    assert client.get("/settings/notifications/").status_code == 405
    assert client.post("/settings/notifications/").status_code == 403


def test_pages_cost_the_same_however_much_there_is(browser, person, django_assert_max_num_queries):
    for _ in range(30):
        make_notification(person)
    with django_assert_max_num_queries(6):
        browser.get(PATH)
