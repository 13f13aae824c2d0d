"""Signatures, checked by what others published and by code of the test's own."""

import base64
import hashlib
import hmac

from core.notifications.webhooks import signatures


def test_a_published_example_comes_out_the_same():
    """Source: the tests of the reference libraries of Standard Webhooks."""
    made = signatures.headers(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        delivery_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert made == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_two_secrets_sign_side_by_side():
    secrets = [signatures.new_secret(), signatures.new_secret()]
    made = signatures.headers(secrets, delivery_id="a", timestamp=7, body="Ä".encode())
    keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets]
    wanted = [base64.b64encode(hmac.new(key, "a.7.Ä".encode(), hashlib.sha256).digest()).decode() for key in keys]
    assert made["webhook-signature"] == f"v1,{wanted[0]} v1,{wanted[1]}"


def test_a_secret_is_long_enough_and_never_the_same():
    made = {signatures.new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) for secret in made} == {32}
