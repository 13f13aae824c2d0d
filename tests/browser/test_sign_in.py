"""Ways in and out, in a real browser, against the real program."""

import time
from collections.abc import Callable, Iterator

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from playwright.sync_api import Browser, Page, expect

from tests.browser.browser import sign_in
from tests.browser.conftest import TIMEOUT_MILLISECONDS, watch
from tests.program import Program

pytestmark = pytest.mark.chromium

PASSWORD = "a long enough secret"
VIRTUAL_KEY = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.fixture
def new_browser(program: Program, browser: Browser, complaints: list[str]) -> Iterator[Callable[..., Page]]:
    """Open browsers that nobody has signed in with."""
    contexts = []

    def open_one(url: str = program.url) -> Page:
        context = browser.new_context(base_url=url)
        context.set_default_timeout(TIMEOUT_MILLISECONDS)
        contexts.append(context)
        page = context.new_page()
        watch(page, url, complaints)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []


def enter(page: Page, name: str, password: str = PASSWORD) -> None:
    page.goto("/login")
    page.get_by_label("Username or email").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()


def join(operator: Page, guest: Page, name: str, role: str = "user") -> None:
    """Invite somebody, and have them accept."""
    operator.goto("/admin/core/invitation/add/")
    operator.get_by_label("Role").select_option(role)
    operator.locator("[name=_save]").click()
    link = operator.locator("#invitation-link").inner_text()
    guest.goto("/account/invitation/" + link.rstrip("/").rsplit("/", 1)[1] + "/")
    guest.get_by_label("Username").fill(name)
    guest.get_by_label("Password", exact=True).fill(PASSWORD)
    guest.get_by_label("The password again").fill(PASSWORD)
    guest.get_by_role("button", name="Make the account").click()
    guest.wait_for_url("**/dashboard")
    guest.goto("/account/")
    expect(guest.get_by_role("heading", name="Your account")).to_be_visible()


def code_for(secret: str) -> str:
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30))


def test_a_wrong_password_is_told_and_the_right_one_opens_the_page_that_was_asked_for(
    new_browser: Callable[..., Page],
) -> None:
    page = new_browser()
    page.goto("/admin/core/user/")
    expect(page.get_by_label("Username or email")).to_be_focused()
    page.keyboard.type("operator")
    page.keyboard.press("Tab")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("do not belong together")
    expect(page.get_by_label("Username or email")).to_have_value("operator")

    page.get_by_label("Password").fill("browser-test-only")
    page.keyboard.press("Enter")
    page.wait_for_url("**/admin/core/user/")


def test_an_invitation_becomes_an_account(page: Page, new_browser: Callable[..., Page]) -> None:
    guest = new_browser()
    join(page, guest, "grace")
    guest.get_by_role("button", name="Sign out").click()
    enter(guest, "grace")
    guest.wait_for_url("**/dashboard")


def test_an_authenticator_app_is_set_up_and_asked_for_and_a_recovery_code_replaces_it(
    page: Page, new_browser: Callable[..., Page]
) -> None:
    guest = new_browser()
    join(page, guest, "totp-person")
    guest.get_by_role("link", name="Set up").click()
    guest.get_by_role("link", name="Set up an app").click()
    secret = guest.locator("#totp-secret").inner_text()
    guest.get_by_label("Authenticator code").fill(code_for(secret))
    guest.get_by_role("button", name="Switch on").click()
    recovery_code = guest.locator("#recovery-codes li").first.inner_text()
    guest.get_by_role("link", name="I have saved them").click()
    guest.wait_for_url("**/account/")
    guest.get_by_role("button", name="Sign out").click()

    enter(guest, "totp-person")
    expect(guest.get_by_label("Code")).to_be_focused()
    guest.get_by_label("Code").fill("000000")
    guest.keyboard.press("Enter")
    expect(guest.get_by_text("Incorrect code")).to_be_visible()
    guest.get_by_label("Code").fill(code_for(secret))
    guest.keyboard.press("Enter")
    guest.wait_for_url("**/dashboard")

    elsewhere = new_browser()
    enter(elsewhere, "totp-person")
    elsewhere.get_by_label("Code").fill(recovery_code)
    elsewhere.keyboard.press("Enter")
    elsewhere.wait_for_url("**/dashboard")


def test_another_device_is_signed_out(page: Page, new_browser: Callable[..., Page]) -> None:
    here, there = new_browser(), new_browser()
    join(page, here, "traveller")
    enter(there, "traveller")
    there.wait_for_url("**/dashboard")
    here.reload()
    here.get_by_role("button", name="Sign out", exact=True).last.click()
    expect(here.get_by_text("Signed out there.")).to_be_visible()
    there.reload()
    expect(there.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_passkey_signs_in_alone(page: Page, program: Program, new_browser: Callable[..., Page]) -> None:
    # Passkeys belong to a name, never to an address like 127.0.0.1.
    guest = new_browser(program.url.replace("127.0.0.1", "localhost"))
    tools = guest.context.new_cdp_session(guest)
    tools.send("WebAuthn.enable")
    tools.send("WebAuthn.addVirtualAuthenticator", {"options": VIRTUAL_KEY})
    join(page, guest, "keyholder")
    guest.goto("/account/second-factor/")
    guest.get_by_role("link", name="Add a passkey").click()
    expect(guest.get_by_label("Sign in with it alone")).to_be_checked()
    guest.get_by_role("button", name="Add").click()
    expect(guest.get_by_role("heading", name="Recovery codes")).to_be_visible()
    guest.get_by_role("button", name="Sign out").click()

    guest.goto("/login")
    guest.get_by_role("button", name="Sign in with a passkey").click()
    guest.wait_for_url("**/dashboard")


def test_a_passkey_that_cannot_be_used_is_told(new_browser: Callable[..., Page]) -> None:
    guest = new_browser()  # at 127.0.0.1
    guest.goto("/login")
    guest.get_by_role("button", name="Sign in with a passkey").click()
    expect(guest.get_by_text("The passkey did not work here")).to_be_visible()


def test_the_operator_confirms_before_something_dangerous(new_browser: Callable[..., Page]) -> None:
    operator = new_browser()
    sign_in(operator)
    operator.goto("/account/confirm/?next=/admin/core/apikey/add/")
    expect(operator.get_by_label("Password")).to_be_focused()
    operator.get_by_label("Password").fill("browser-test-only")
    operator.keyboard.press("Enter")
    operator.wait_for_url("**/admin/core/apikey/add/")
