"""Signatures by which a receiver knows that a delivery is ours, new, and unchanged.

An HMAC-SHA256 over the delivery's key, the moment of the try and the body.
Source: Standard Webhooks, "Signature scheme".
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

PREFIX = "whsec_"
SECRET_BYTES = 32


def new_secret() -> str:
    return f"{PREFIX}{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}"


def headers(keys: Iterable[str], *, delivery_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Make the headers that sign a body, with each of these secrets: a receiver looks for one that fits.

    timestamp: seconds since 1970.
    """
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{_signature(key, delivery_id, timestamp, body)}" for key in keys),
    }


def _signature(secret: str, delivery_id: str, timestamp: int, body: bytes) -> str:
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
