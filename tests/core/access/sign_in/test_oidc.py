"""Sign-in with an identity provider that lies, over real HTTP."""

import time
from urllib.parse import parse_qs, urlsplit

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from allauth.socialaccount.models import SocialAccount
from django.test import Client
from django.urls import reverse

from core.access.sign_in import invitations
from core.models import CircuitBreaker, User
from core.net import addresses
from core.net.http import pool
from tests.factories import make_administrator, make_user
from tests.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from tests.servers import web_server
from tests.services.server import free_port

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

START = "/account/providers/sso/"
FAILED = "That sign-in did not work"
AWAY = "Your identity provider does not answer at the moment"


@pytest.fixture
def provider(settings):
    with IdentityProvider() as running:
        configure(settings, running.address)
        settings.OIDC_DOMAINS = ["example.com"]
        yield running


def configure(settings, issuer):
    own = settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]
    app = {"provider_id": "sso", "name": "Example SSO", "client_id": CLIENT_ID, "secret": CLIENT_SECRET}
    settings.SOCIALACCOUNT_PROVIDERS = {
        "openid_connect": {**own, "APPS": [{**app, "settings": {"server_url": issuer}}]}
    }


def sign_in(client, provider, process="login"):
    """Go to the provider and back, as a browser does."""
    away = client.post(f"{START}?process={process}")
    return client.get(provider.authorize(away["Location"]))


def who(client):
    key = client.session.get("_auth_user_id")
    return User.objects.get(pk=key) if key else None


def assert_refused(client, response):
    assert FAILED in response.text
    assert who(client) is None
    assert not SocialAccount.objects.exists()


def test_somebody_new_from_our_domain_gets_an_account(client, provider):
    provider.person["preferred_username"] = "ada"
    before = pool("external", addresses.identity).counters().requests
    assert sign_in(client, provider)["Location"] == "/dashboard"
    user = who(client)
    assert (user.username, user.email, user.is_staff) == ("ada", "ada@example.com", False)
    assert not user.has_usable_password()
    assert pool("external", addresses.identity).counters().requests - before == len(provider.asked)


def test_somebody_known_comes_in_again_whatever_their_address_is_now(client, provider):
    sign_in(client, provider)
    provider.person["email"] = "ada@elsewhere.example"
    other = Client()
    sign_in(other, provider)
    assert who(other) == who(client)
    assert User.objects.count() == 1


def test_the_login_page_offers_the_provider_and_starts_by_post_only(client, provider):
    assert "Sign in with Example SSO" in client.get("/login").text
    assert client.get(START).status_code == 200  # asks first
    assert provider.asked == []


def test_without_a_provider_there_is_no_address(client):
    assert client.post(START).status_code == 404
    assert "Sign in with a passkey" in client.get("/login").text
    assert "single sign-on" not in client.get("/login").text


def test_every_sign_in_has_its_own_state_nonce_and_challenge(client, provider):
    asked = [parse_qs(urlsplit(client.post(START)["Location"]).query) for _ in range(2)]
    for name in ("state", "nonce", "code_challenge"):
        assert asked[0][name] != asked[1][name]
        assert len(asked[0][name][0]) >= 16


def test_a_link_cannot_slip_parameters_in(client, provider):
    away = client.post(f"{START}?auth_params=redirect_uri%3Dhttps%3A%2F%2Fevil.example%26state%3Dx&scope=admin")
    asked = parse_qs(urlsplit(away["Location"]).query)
    assert asked["redirect_uri"] == ["http://testserver/account/providers/sso/callback/"]
    assert asked["state"] != ["x"]
    assert "admin" not in asked["scope"][0]


# What must be refused --------------------------------------------------------------------------------------------


def test_a_wrong_or_missing_state_is_refused(client, provider):
    back = provider.authorize(client.post(START)["Location"])
    code = parse_qs(urlsplit(back).query)["code"][0]
    for query in (f"code={code}&state=guessed", f"code={code}"):
        assert_refused(client, client.get(f"{START}callback/?{query}"))


def test_a_state_of_another_browser_is_refused(client, provider):
    back = provider.authorize(client.post(START)["Location"])
    stranger = Client()
    assert_refused(stranger, stranger.get(back))


def test_a_state_works_once(client, provider):
    back = provider.authorize(client.post(START)["Location"])
    client.get(back)
    assert FAILED in Client(cookies=None).get(back).text
    assert FAILED in client.get(back).text


LIES = {
    "another nonce": {"nonce": "replayed"},
    "no nonce": {"nonce": None},
    "another issuer": {"iss": "https://evil.example"},
    "no issuer": {"iss": None},
    "another audience": {"aud": "another-program"},
    "no audience": {"aud": None},
    "several audiences without naming ours": {"aud": [CLIENT_ID, "another-program"]},
    "issued to another program": {"azp": "another-program"},
    "expired": {"exp": int(time.time()) - 3600},
    "no end": {"exp": None},
    "no subject": {"sub": None},
    "from the future": {"iat": int(time.time()) + 3600},
}


@pytest.mark.parametrize("lie", LIES)
def test_an_id_token_that_does_not_fit_is_refused(client, provider, lie):
    provider.lies = LIES[lie]
    assert_refused(client, sign_in(client, provider))


def test_a_token_signed_by_somebody_else_is_refused(client, provider):
    provider.signs_with = provider.foreign_key
    assert_refused(client, sign_in(client, provider))


@pytest.mark.parametrize(("algorithm", "key"), [("none", None), ("HS256", CLIENT_SECRET * 3)])
def test_a_token_without_a_key_pairs_signature_is_refused(client, provider, algorithm, key):
    provider.algorithm, provider.signs_with = algorithm, key
    assert_refused(client, sign_in(client, provider))


def test_a_provider_that_calls_itself_something_else_is_refused(client, provider):
    provider.description = {"issuer": "https://evil.example"}
    assert_refused(client, client.post(START))


def test_a_provider_that_is_away_or_no_provider_is_told(client, settings):
    configure(settings, f"http://127.0.0.1:{free_port()}")
    assert FAILED in client.post(START).text
    with web_server() as address:
        configure(settings, address)
        assert FAILED in client.post(START).text


def test_a_provider_that_is_away_is_not_waited_for_by_everybody(client, provider, settings, fake_clock):
    """Until a call finds it well again, people are told so at once."""
    url = provider.address
    configure(settings, f"http://127.0.0.1:{free_port()}")
    for _ in range(settings.BREAKER_FAILURES):
        assert AWAY in client.post(START).text
    configure(settings, url)
    assert AWAY in client.post(START).text
    assert provider.asked == []
    assert CircuitBreaker.objects.get(name="dependency:identity").is_shut
    fake_clock.advance(settings.BREAKER_COOL_DOWN_SECONDS)
    assert sign_in(client, provider)["Location"] == "/dashboard"
    assert not CircuitBreaker.objects.get(name="dependency:identity").is_shut


def test_a_provider_that_fails_is_not_asked_for_a_while_either(client, provider, settings):
    provider.status = 500
    for _ in range(settings.BREAKER_FAILURES):
        assert FAILED in client.post(START).text
    asked = len(provider.asked)
    assert AWAY in client.post(START).text
    assert len(provider.asked) == asked


def test_what_a_provider_refuses_says_nothing_against_it(client, provider, settings):
    provider.status = 404
    for _ in range(settings.BREAKER_FAILURES + 1):
        response = client.post(START)
        assert FAILED in response.text
        assert AWAY not in response.text
    assert CircuitBreaker.objects.get(name="dependency:identity").failures == 0


def test_a_provider_that_goes_away_in_between_is_told(client, provider, settings):
    back = provider.authorize(client.post(START)["Location"])
    configure(settings, f"http://127.0.0.1:{free_port()}")
    assert_refused(client, client.get(back))


def test_the_users_information_must_be_about_the_same_person(client, provider):
    provider.lies = {"email": None, "email_verified": None}
    provider.user_information = {"sub": "somebody-else"}
    assert_refused(client, sign_in(client, provider))
    provider.user_information = {}
    sign_in(client, provider)
    assert who(client).email == "ada@example.com"


# Who may come in -------------------------------------------------------------------------------------------------


def test_an_address_that_somebody_has_here_is_not_joined_silently(client, provider):
    owner = make_administrator(email="ADA@example.com")
    response = sign_in(client, provider)
    assert response.status_code == 403
    assert "You have an account already" in response.text
    assert who(client) is None
    assert not SocialAccount.objects.exists()
    assert User.objects.get() == owner


def test_who_is_signed_in_connects_the_identity_and_then_signs_in_with_it(client, provider):
    owner = make_user(email="ada@example.com")
    client.force_login(owner)
    assert sign_in(client, provider, "connect")["Location"] == reverse("socialaccount_connections")
    assert SocialAccount.objects.get().user == owner
    other = Client()
    sign_in(other, provider)
    assert who(other) == owner


def test_an_identity_of_somebody_else_is_not_connected(client, provider):
    sign_in(Client(), provider)
    client.force_login(make_user())
    sign_in(client, provider, "connect")
    assert SocialAccount.objects.get().user != who(client)


@pytest.mark.parametrize(
    "person",
    [
        {"email": "eve@evil.example"},
        {"email": "eve@sub.example.com"},
        {"email": "eve@example.com", "email_verified": False},
        {"email": None},
    ],
)
def test_others_need_an_invitation(client, provider, person):
    provider.person |= person
    provider.user_information = {"sub": "p-1"}
    assert "There is no account for you yet" in sign_in(client, provider).text
    assert not User.objects.exists()


def test_an_invitation_is_accepted_with_the_provider(client, provider):
    provider.person["email"] = "guest@elsewhere.example"
    invitation, token = invitations.invite(email="", role="operator", by=make_administrator())
    client.get(reverse("account_invitation_link", args=[token]))
    assert sign_in(client, provider)["Location"] == "/admin/"
    invitation.refresh_from_db()
    assert invitation.used_by == who(client)
    assert who(client).is_staff


def test_an_unverified_address_becomes_nobodys(client, provider):
    provider.person["email_verified"] = False
    _, token = invitations.invite(email="", role="user", by=make_administrator())
    client.get(reverse("account_invitation_link", args=[token]))
    sign_in(client, provider)
    assert who(client).email == ""
    assert not EmailAddress.objects.exists()


def test_who_is_switched_off_stays_out(client, provider):
    sign_in(Client(), provider)
    User.objects.update(is_active=False)
    assert sign_in(client, provider)["Location"] == "/account/inactive/"
    assert who(client) is None


def test_the_second_factor_is_asked_for_after_the_provider_too(client, provider):
    sign_in(Client(), provider)
    TOTP.activate(User.objects.get(), generate_totp_secret())
    assert sign_in(client, provider)["Location"] == "/account/second-factor/authenticate/"
    assert who(client) is None


def test_people_without_a_password_confirm_at_their_provider(client, provider):
    sign_in(client, provider)
    User.objects.update(role="administrator", is_staff=True, is_superuser=True)
    session = client.session
    session["signed_in_at"] = 0
    session.save()
    address = client.get("/admin/core/user/add/")["Location"]
    assert address.startswith(f"{START}?process=login&again=1&next=")
    away = client.post(address)["Location"]
    assert parse_qs(urlsplit(away).query)["prompt"] == ["login"]
    assert client.get(provider.authorize(away))["Location"] == "/admin/core/user/add/"
    assert client.get("/admin/core/user/add/").status_code == 200
