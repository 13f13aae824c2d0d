import uuid

import pytest
from django.test import Client

from core.access import api_keys, tokens
from core.models import ApiKey, TokenFamily, User, Verb
from tests.factories import make_operator, make_user

pytestmark = pytest.mark.django_db

SETTINGS = "/settings"


@pytest.fixture
def person() -> User:
    return make_user(username="ada")


@pytest.fixture
def browser(person: User) -> Client:
    client = Client()
    client.force_login(person)
    return client


@pytest.mark.parametrize("path", ["/settings", "/settings/", "/dashboard", "/chat", "/chat/"])
def test_strangers_are_sent_to_sign_in_and_return(path):
    response = Client().get(path)
    assert response.status_code == 302
    assert response["Location"].endswith(f"?next={path}")


def test_the_page_names_who_one_is(browser):
    page = browser.get(SETTINGS)
    assert "You are ada, user in the team Default." in page.text
    assert "no-store" in page["Cache-Control"]
    assert "Console" not in page.text


def test_operators_find_the_way_to_the_console():
    client = Client()
    client.force_login(make_operator())
    assert 'href="/admin/"' in client.get(SETTINGS).text


def test_a_profile_is_changed_and_nothing_beside_it(browser, person):
    data = {"first_name": "Ada", "last_name": "L", "email": "ada@example.com", "role": "administrator", "team": "x"}
    assert "Saved." in browser.post(SETTINGS, data, follow=True).text
    person.refresh_from_db()
    assert (person.first_name, person.email, person.role, person.is_staff) == ("Ada", "ada@example.com", "user", False)


def test_a_wrong_email_is_told_and_not_saved(browser, person):
    assert "valid email" in browser.post(SETTINGS, {"email": "nonsense"}).text
    person.refresh_from_db()
    assert person.email == ""


def test_a_key_is_made_shown_once_and_limited(browser, person):
    data = {"name": "reports", "verbs": ["read"], "agent_names": "helper, analyst", "expires": "30"}
    made = browser.post("/settings/keys/", data)
    text = made.context["text"]
    assert text in made.text
    assert "no-store" in made["Cache-Control"]
    key = api_keys.verify(text)
    assert (key.user, key.verbs, key.agent_names) == (person, ["read"], ["analyst", "helper"])
    assert key.expires_at is not None
    assert text not in browser.get(SETTINGS).text


def test_a_key_is_limited_to_names_that_can_be_ones(browser):
    response = browser.post("/settings/keys/", {"agent_names": ", ".join(f"a{number}" for number in range(101))})
    assert "At most 100 names; these are 101." in response.text
    assert not ApiKey.objects.exists()


def test_operators_are_offered_the_right_to_manage_models_and_others_are_not(browser):
    assert 'value="models"' not in browser.get(SETTINGS).text
    operators = Client()
    operators.force_login(make_operator())
    page = operators.get(SETTINGS).text
    assert 'value="models"' in page
    assert "all that you may, except to manage models" in page
    made = operators.post("/settings/keys/", {"verbs": [Verb.MODELS]})
    assert api_keys.verify(made.context["text"]).verbs == ["models"]


def test_nobody_asks_for_more_than_they_may(browser):
    response = browser.post("/settings/keys/", {"verbs": [Verb.OPERATE]})
    assert response.status_code == 200
    assert "operate" in response.text
    assert not ApiKey.objects.exists()


def test_keys_are_rotated_and_revoked(browser, person):
    key, text = api_keys.issue(person, "reports")
    successor = browser.post(f"/settings/keys/{key.pk}/rotate/").context["text"]
    assert api_keys.verify(successor)
    assert api_keys.verify(text) == key
    assert "does not work any more" in browser.post(f"/settings/keys/{key.pk}/revoke/", follow=True).text
    assert api_keys.verify(text) is None
    assert "nothing changed" in browser.post(f"/settings/keys/{key.pk}/revoke/", follow=True).text
    assert "does not work any more" in browser.post(f"/settings/keys/{key.pk}/rotate/", follow=True).text
    assert ApiKey.objects.count() == 2


def test_what_is_anothers_is_not_there(browser):
    other = make_user()
    key, _ = api_keys.issue(other)
    family = tokens.verify(tokens.begin(other).access)
    for path in (
        f"keys/{key.pk}/rotate",
        f"keys/{key.pk}/revoke",
        f"sign-ins/{family.pk}/end",
        f"keys/{uuid.uuid4()}/revoke",
    ):
        assert browser.post(f"/settings/{path}/").status_code == 404
    key.refresh_from_db()
    assert key.revoked_at is None
    assert TokenFamily.objects.get().revoked_at is None


def test_a_sign_in_by_token_is_ended(browser, person):
    pair = tokens.begin(person, user_agent="phone app")
    assert "phone app" in browser.get(SETTINGS).text
    assert (
        "Signed out there."
        in browser.post(f"/settings/sign-ins/{TokenFamily.objects.get().pk}/end/", follow=True).text
    )
    with pytest.raises(tokens.TokenRefused):
        tokens.verify(pair.access)
    assert "phone app" not in browser.get(SETTINGS).text


@pytest.mark.parametrize("path", ["keys/", f"keys/{uuid.uuid4()}/rotate/", f"sign-ins/{uuid.uuid4()}/end/"])
def test_changes_need_a_post_and_the_csrf_token(person, path):
    client = Client(enforce_csrf_checks=True)
    client.force_login(person)
    assert client.get(f"/settings/{path}").status_code == 405
    assert client.post(f"/settings/{path}").status_code == 403


def test_the_number_of_queries_does_not_grow_with_keys(browser, person, django_assert_max_num_queries):
    for _ in range(20):
        api_keys.issue(person)
        tokens.begin(person)
    with django_assert_max_num_queries(10):
        browser.get(SETTINGS)


def test_signing_out_ends_the_session(browser):
    assert browser.post("/logout").status_code == 302
    assert browser.get(SETTINGS).status_code == 302
