import io
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from core.access import signing_keys, tokens
from core.access.tokens import TokenRefused
from core.models import SigningKey, TokenFamily, User
from tests.factories import make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


def forged(pair, key=None, *, algorithm=tokens.ALGORITHM, kind=tokens.ACCESS, headers=(), **changes):
    """A token like the pair's access token, with other claims, or another key."""
    claims = jwt.decode(pair.access, options={"verify_signature": False})
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    head = {"kid": signing_keys.current().kid, "typ": kind, **dict(headers)}
    return jwt.encode(claims, signing_keys.current().private if key is None else key, algorithm, headers=head)


def test_an_access_token_stands_for_its_person():
    user = make_user()
    pair = tokens.begin(user, address="192.0.2.1", user_agent="curl")
    family = tokens.verify(pair.access)
    assert (family.user, family.address, family.user_agent) == (user, "192.0.2.1", "curl")
    assert pair.expires_in_seconds == 300


def test_the_forger_of_these_tests_can_make_a_good_one():
    pair = tokens.begin(make_user())
    assert tokens.verify(forged(pair))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another-api"},
        {"iss": "another"},
        {"exp": 1},
        {"nbf": 4_000_000_000},
        {"iat": None},
        {"jti": None},
        {"exp": None},
        {"sub": "00000000-0000-7000-8000-000000000009"},
        {"fam": "00000000-0000-7000-8000-000000000009"},
        {"kind": tokens.REFRESH},
        {"kind": "JWT"},
        {"headers": {"kid": "unknown"}},
        {"headers": {"kid": "../../etc/passwd"}},
    ],
)
def test_a_claim_or_header_that_is_wrong_refuses_the_token(changes):
    pair = tokens.begin(make_user())
    with pytest.raises(TokenRefused):
        tokens.verify(forged(pair, **changes))


def test_no_other_algorithm_is_taken():
    pair = tokens.begin(make_user())
    public = signing_keys.current().public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    header, body, _ = pair.access.split(".")
    for algorithm in ("none", "HS256"):
        head = json.loads(urlsafe_b64decode(header + "==")) | {"alg": algorithm}
        changed = urlsafe_b64encode(json.dumps(head).encode()).decode().rstrip("=")
        signature = ""
        if algorithm == "HS256":  # signed with what everybody may know: the public key
            signer = jwt.get_algorithm_by_name("HS256")
            raw = signer.sign(f"{changed}.{body}".encode(), public)
            signature = urlsafe_b64encode(raw).decode().rstrip("=")
        with pytest.raises(TokenRefused):
            tokens.verify(f"{changed}.{body}.{signature}")


def test_a_key_that_the_token_brings_along_is_not_used():
    pair = tokens.begin(make_user())
    own = signing_keys.Ed25519PrivateKey.generate()
    for headers in ({"jku": "https://evil.example/keys"}, {"jwk": {"kty": "OKP"}}, {"x5u": "https://evil.example"}):
        with pytest.raises(TokenRefused):
            tokens.verify(forged(pair, own, headers=headers))


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "ü.ü.ü", "." * 10, "x" * 5000])
def test_what_is_no_token_is_refused(text):
    for read in (tokens.verify, tokens.refresh):
        with pytest.raises(TokenRefused):
            read(text)


def test_a_refresh_token_is_no_access_token_and_the_other_way_round():
    pair = tokens.begin(make_user())
    with pytest.raises(TokenRefused):
        tokens.verify(pair.refresh)
    with pytest.raises(TokenRefused):
        tokens.refresh(pair.access)


def test_a_refresh_token_buys_the_next_pair():
    pair = tokens.begin(make_user())
    following = tokens.refresh(tokens.refresh(pair.refresh).refresh)
    assert tokens.verify(following.access) == tokens.verify(pair.access)
    assert TokenFamily.objects.get().generation == 3


def test_a_refresh_token_that_comes_again_ends_the_whole_family():
    pair = tokens.begin(make_user())
    following = tokens.refresh(pair.refresh)
    with pytest.raises(TokenRefused, match="used before"):
        tokens.refresh(pair.refresh)
    for read, text in ((tokens.verify, following.access), (tokens.refresh, following.refresh)):
        with pytest.raises(TokenRefused):
            read(text)
    assert TokenFamily.objects.get().revoked_reason == "A refresh token was used twice."


@pytest.mark.django_db(transaction=True)
def test_of_many_who_use_a_refresh_token_at_once_one_wins():
    pair = tokens.begin(make_user())

    def use(_: int) -> bool:
        try:
            tokens.refresh(pair.refresh)
        except TokenRefused:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(use, range(20))) == 1
    assert TokenFamily.objects.get().revoked_at is not None


def switch_off(user: User) -> None:
    user.is_active = False


def change_password(user: User) -> None:
    user.set_password("another-password-123")


@pytest.mark.parametrize("change", [switch_off, change_password])
def test_a_family_ends_with_its_person_or_their_password(change):
    user = make_user(password="first-password-123")
    pair = tokens.begin(user)
    assert tokens.verify(pair.access)
    change(user)
    user.save()
    for read, text in ((tokens.verify, pair.access), (tokens.refresh, pair.refresh)):
        with pytest.raises(TokenRefused):
            read(text)


def test_a_sign_in_lasts_so_long_at_most(settings):
    pair = tokens.begin(make_user())
    TokenFamily.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(TokenRefused):
        tokens.refresh(pair.refresh)


def test_both_keys_verify_until_the_old_one_is_dropped():
    user = make_user()
    before = tokens.begin(user)
    call_command("rotate_signing_key", stdout=io.StringIO())
    after = tokens.begin(user)
    assert tokens.verify(before.access).user == tokens.verify(after.access).user == user
    signing_keys.drop_old()
    assert tokens.verify(after.access).user == user
    with pytest.raises(TokenRefused):
        tokens.verify(before.access)


def test_the_database_holds_no_key_in_clear():
    tokens.begin(make_user())
    assert "PRIVATE" not in SigningKey.objects.get().private_key


def test_two_first_starts_make_one_key():
    signing_keys._create_first()
    signing_keys._create_first()
    assert SigningKey.objects.count() == 1
