import io
import json

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.core.management import call_command
from django.test import Client

from core.models import TokenFamily
from tests.api import assert_problem
from tests.factories import make_administrator, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

PASSWORD = "a long enough secret"


@pytest.fixture(autouse=True)
def required(settings):
    settings.REQUIRE_SECOND_FACTOR = True


@pytest.fixture
def protected():
    """An operator with an authenticator app, and the app's secret."""
    operator = make_administrator(username="op", password=PASSWORD)
    secret = generate_totp_secret()
    TOTP.activate(operator, secret)
    return operator, secret


def sign_in(client):
    return client.post("/login", {"login": "op", "password": PASSWORD})


def test_an_operator_without_one_is_led_to_set_one_up_before_any_console_page(client):
    make_administrator(username="op", password=PASSWORD)
    assert sign_in(client)["Location"] == "/admin/"
    for path in ("/admin/", "/admin/core/user/", "/admin/dashboard/", "/admin/no-such-page/"):
        assert client.get(path)["Location"] == "/account/second-factor/"
    assert "needs a second factor" in client.get("/account/second-factor/").text


@pytest.mark.django_db(transaction=True)  # allauth tells of the new factor when it is committed
def test_setting_one_up_opens_the_console_at_once_and_stores_no_readable_secret(client, code_of):
    make_administrator(username="op", password=PASSWORD)
    sign_in(client)
    page = client.get("/account/second-factor/totp/activate/")
    secret = client.session["mfa.totp.secret"]
    assert secret in page.text
    response = client.post("/account/second-factor/totp/activate/", {"code": code_of(secret)})
    assert response["Location"] == "/account/second-factor/recovery-codes/"
    assert client.get("/admin/").status_code == 200
    stored = {row.type: row.data for row in Authenticator.objects.all()}
    assert secret not in str(stored)
    assert TOTP(Authenticator.objects.get(type="totp")).validate_code(code_of(secret))
    assert stored["recovery_codes"]["seed"].startswith("gAAAA")  # a Fernet token


def test_a_password_alone_opens_nothing(client, protected):
    assert sign_in(client)["Location"] == "/account/second-factor/authenticate/"
    assert client.get("/admin/")["Location"].startswith("/admin/login/")
    assert client.get("/account/")["Location"].startswith("/login")
    assert_problem(client.get("/api/v1/tasks/"), 401, "not-authenticated")


def test_password_and_code_open_the_console_and_the_api(client, protected, code_of):
    sign_in(client)
    client.post("/account/second-factor/authenticate/", {"code": code_of(protected[1])})
    assert client.get("/admin/").status_code == 200
    assert client.get("/api/v1/tasks/").status_code == 200


def test_a_code_works_once(client, protected, code_of):
    code = code_of(protected[1])
    sign_in(client)
    client.post("/account/second-factor/authenticate/", {"code": code})
    other = Client()
    sign_in(other)
    assert "Incorrect code" in other.post("/account/second-factor/authenticate/", {"code": code}).text
    assert other.get("/admin/").status_code == 302


def test_a_recovery_code_works_once(client, protected):
    code = RecoveryCodes.activate(protected[0]).generate_codes()[0]
    sign_in(client)
    client.post("/account/second-factor/authenticate/", {"code": code})
    assert client.get("/admin/").status_code == 200
    other = Client()
    sign_in(other)
    other.post("/account/second-factor/authenticate/", {"code": code})
    assert other.get("/admin/").status_code == 302


def test_codes_are_attempts_too(client, protected, settings, code_of):
    settings.SIGN_IN_TRIES_PER_ACCOUNT = 3
    sign_in(client)
    for _ in range(3):
        page = client.post("/account/second-factor/authenticate/", {"code": "000000"})
    assert "Too many attempts" in page.text
    assert (
        "Too many attempts"
        in client.post("/account/second-factor/authenticate/", {"code": code_of(protected[1])}).text
    )
    assert client.get("/admin/").status_code == 302


def test_secrets_of_second_factors_take_the_newest_key(client, protected, settings, code_of):
    settings.ENCRYPTION_KEYS = ["a newer key of more than thirty-two characters", *settings.ENCRYPTION_KEYS]
    before = Authenticator.objects.get(type="totp").data["secret"]
    call_command("rotate_secrets", stdout=io.StringIO())
    assert Authenticator.objects.get(type="totp").data["secret"] != before
    settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS[:1]
    sign_in(client)
    client.post("/account/second-factor/authenticate/", {"code": code_of(protected[1])})
    assert client.get("/admin/").status_code == 200


def test_a_session_that_did_not_pass_it_opens_neither_console_nor_api(client, protected, code_of):
    client.force_login(protected[0])  # as a session from before the second factor was set up
    assert client.get("/admin/core/user/")["Location"] == (
        "/account/second-factor/reauthenticate/?next=%2Fadmin%2Fcore%2Fuser%2F"
    )
    assert_problem(client.get("/api/v1/tasks/"), 403, "second-factor-required")
    response = client.post(
        "/account/second-factor/reauthenticate/", {"code": code_of(protected[1]), "next": "/admin/core/user/"}
    )
    assert response["Location"] == "/admin/core/user/"
    assert client.get("/admin/core/user/").status_code == 200


def test_switching_it_off_shuts_the_console_again(client, protected, code_of):
    sign_in(client)
    client.post("/account/second-factor/authenticate/", {"code": code_of(protected[1])})
    client.post("/account/second-factor/totp/deactivate/")
    assert client.get("/admin/")["Location"] == "/account/second-factor/"


def test_it_is_asked_of_those_only_who_may_use_the_console(client):
    client.force_login(make_user())
    assert client.get("/account/").status_code == 200
    assert client.get("/api/v1/tasks/").status_code == 200


def test_it_is_asked_of_nobody_where_it_is_not_required(client, settings):
    settings.REQUIRE_SECOND_FACTOR = False
    client.force_login(make_administrator())
    assert client.get("/admin/").status_code == 200


def test_the_api_takes_no_password_alone_from_who_has_or_needs_one(client, settings):
    person = make_user(username="ada", password=PASSWORD)
    make_administrator(username="op", password=PASSWORD)

    def sign_in_by_api(name):
        return client.post("/api/auth/login", {"email": name, "password": PASSWORD}, content_type="application/json")

    assert_problem(sign_in_by_api("op"), 403, "second-factor-required")
    assert sign_in_by_api("ada").status_code == 200
    settings.REQUIRE_SECOND_FACTOR = False
    assert sign_in_by_api("op").status_code == 200
    TOTP.activate(person, generate_totp_secret())
    assert_problem(sign_in_by_api("ada"), 403, "second-factor-required")


def test_an_administrator_helps_somebody_who_lost_theirs(client, settings):
    settings.REQUIRE_SECOND_FACTOR = False
    person = make_user(username="ada", password=PASSWORD)
    there = Client()
    there.force_login(person)
    TOTP.activate(person, generate_totp_secret())
    client.force_login(make_administrator())
    people = {"action": "forget_second_factors", "_selected_action": [str(person.pk)]}
    client.post("/admin/core/user/", people)
    assert not Authenticator.objects.exists()
    assert there.get("/account/").status_code == 302


@pytest.mark.parametrize("page", ["mfa/authenticator", "account/emailaddress", "socialaccount/socialaccount"])
def test_the_console_has_no_page_that_goes_around_it(client, settings, page):
    settings.REQUIRE_SECOND_FACTOR = False
    client.force_login(make_administrator())
    assert client.get(f"/admin/{page}/").status_code == 404


def ask_api(client, **body):
    data = json.dumps({"email": "op", "password": PASSWORD, **body})
    return client.post("/api/auth/login", data, content_type="application/json")


def test_a_code_signs_in_by_the_api(client, protected, code_of):
    code = code_of(protected[1])
    access = ask_api(client, code=code).json()["access"]
    assert Client(headers={"Authorization": f"Bearer {access}"}).get("/api/v1/nodes/").status_code == 200
    assert_problem(ask_api(client, code=code), 401, "sign-in-refused")  # it was used


def test_a_recovery_code_signs_in_by_the_api_once(client, protected):
    RecoveryCodes.activate(protected[0])
    code = Authenticator.objects.get(type="recovery_codes").wrap().get_unused_codes()[0]
    assert ask_api(client, code=code).status_code == 200
    assert_problem(ask_api(client, code=code), 401, "sign-in-refused")


@pytest.mark.parametrize("code", ["000000", "", "nonsense"])
def test_a_wrong_code_signs_nobody_in_by_the_api_and_counts(client, protected, settings, code_of, code):
    settings.SIGN_IN_TRIES_PER_ACCOUNT = 2
    for _ in range(2):
        assert ask_api(client, code=code).status_code in {401, 422}
    if code:
        assert_problem(ask_api(client, code=code_of(protected[1])), 429, "too-many-attempts")
    assert not TokenFamily.objects.exists()


def test_a_session_begun_by_the_api_with_a_code_opens_the_console(client, protected, code_of):
    assert ask_api(client, code=code_of(protected[1]), session=True).status_code == 204
    assert client.get("/admin/").status_code == 200
