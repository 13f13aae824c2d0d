"""Signed statements of where the chain stands, and of where it begins.

Kept elsewhere, the former show that the end of the log was cut off, or all of it written anew by somebody who has the
sealing key. The latter is what tells entries that were removed for their age from those that somebody took away.

They are signed with Ed25519, so that others can check them without any secret of this installation.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from django.conf import settings
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from core.audit.seal import head, seal_of
from core.models import AuditBeginning, AuditCheckpoint, AuditEntry, SignedPlace


class InvalidCheckpointError(ValueError):
    """What was given is no checkpoint, or was not signed by the key that it should be. Trust nothing it says."""


def sign() -> AuditCheckpoint | None:
    """Sign where the chain stands now, once for each place; None while it is empty."""
    place, seal = head()
    if place == 0:
        return None
    known = at(place)
    if known is not None:
        return known
    begun = beginning()
    checkpoint = AuditCheckpoint(
        sequence=place,
        seal=seal,
        count=(begun.count if begun else 0) + AuditEntry.objects.filter(sequence__lte=place).count(),
        created_at=timezone.now(),
    )
    _sign(checkpoint)
    checkpoint.save()
    return checkpoint


def at(place: int) -> AuditCheckpoint | None:
    """Find what was signed of a place."""
    return AuditCheckpoint.objects.filter(sequence=place).first()


def begin_behind(place: int, seal: str, until: datetime) -> None:
    """State that the chain begins behind an entry from now on; whoever calls it removes what is before.

    until: when the newest of the removed entries had been written.
    """
    begun = beginning() or AuditBeginning()
    begun.sequence = begun.count = place
    begun.seal, begun.until, begun.created_at = seal, until, timezone.now()
    _sign(begun)
    begun.mac = _mac(begun)
    begun.save()


def beginning() -> AuditBeginning | None:
    """Read where the chain begins; None: at its first entry. It may be forged."""
    return AuditBeginning.objects.first()


def is_genuine_beginning(begun: AuditBeginning) -> bool:
    return hmac.compare_digest(begun.mac, _mac(begun)) and is_genuine(begun)


def is_genuine(checkpoint: SignedPlace, key: Ed25519PublicKey | None = None) -> bool:
    """Check a statement's signature. key: whose it should be; default: this installation's.

    One that this installation signed with a key that it does not have any more is compared without it.
    """
    if key is None:
        key = private_key().public_key()
        if checkpoint.public_key != key.public_bytes_raw().hex():
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(checkpoint.public_key))
    try:
        key.verify(bytes.fromhex(checkpoint.signature), _message(checkpoint))
    except (InvalidSignature, ValueError):
        return False
    return True


def private_key() -> Ed25519PrivateKey:
    """Derive the key from the installation's secret."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(settings.AUDIT_SIGNING_KEY.encode()).digest())


def public_key_pem() -> str:
    """Write the key that others check with, for them to keep beside the checkpoints."""
    return private_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def read_public_key(pem: bytes) -> Ed25519PublicKey:
    """Raises InvalidCheckpointError."""
    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise InvalidCheckpointError("The public key is not in PEM format.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidCheckpointError("The public key is not one for Ed25519.")
    return key


def document(checkpoint: AuditCheckpoint) -> str:
    """Write a checkpoint as a file that can be checked elsewhere."""
    return json.dumps({**checkpoint.statement(), "signature": checkpoint.signature}, indent=2) + "\n"


def read(text: str, key: Ed25519PublicKey | None = None) -> AuditCheckpoint:
    """Read such a file and check its signature. Raises InvalidCheckpointError."""
    try:
        checkpoint = _parse(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidCheckpointError("This is no checkpoint of an audit log.") from error
    if not is_genuine(checkpoint, key or private_key().public_key()):
        raise InvalidCheckpointError("The signature does not belong to this checkpoint and this key.")
    return checkpoint


def compare(checkpoint: AuditCheckpoint) -> str:
    """Compare a checkpoint with this installation's log, as far as it goes back; returns what is wrong, or nothing."""
    begun = beginning()
    if begun is not None and not is_genuine_beginning(begun):
        return f"The statement that the log begins behind entry {begun.sequence} is forged."
    if begun is not None and checkpoint.sequence <= begun.sequence:
        return ""
    entries = AuditEntry.objects.filter(sequence__lte=checkpoint.sequence)
    count = entries.count() + (begun.count if begun else 0)
    if count != checkpoint.count:
        return f"The log has {count} of the {checkpoint.count} entries that the checkpoint counted."
    seal = entries.filter(sequence=checkpoint.sequence).values_list("seal", flat=True).first()
    if seal != checkpoint.seal:
        return f"Entry {checkpoint.sequence} is not the one that was signed: the log was written anew."
    return ""


def _sign(place: SignedPlace) -> None:
    key = private_key()
    place.public_key = key.public_key().public_bytes_raw().hex()
    place.signature = key.sign(_message(place)).hex()


def _mac(begun: AuditBeginning) -> str:
    """No entry's content looks like a statement, so nobody gets one of these made by writing entries."""
    return seal_of(begun.seal, begun.sequence, _message(begun).decode())


def _message(place: SignedPlace) -> bytes:
    return json.dumps(place.statement(), sort_keys=True, separators=(",", ":")).encode()


def _parse(given: Mapping[str, Any]) -> AuditCheckpoint:
    created_at: datetime | None = parse_datetime(given["created_at"])
    if given["kind"] != AuditCheckpoint.KIND or created_at is None or created_at.tzinfo is None:
        raise ValueError
    return AuditCheckpoint(
        sequence=int(given["sequence"]),
        seal=str(given["seal"]),
        count=int(given["count"]),
        created_at=created_at,
        public_key=str(given["public_key"]),
        signature=str(given["signature"]),
    )
