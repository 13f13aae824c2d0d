"""The secrets of this installation, encrypted with a key that is derived from the operator's passphrase.

What is encrypted also names the checksums of everything else in the archive: whoever changes the archive, and does not
know the passphrase, is found.
"""

import base64
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings

from core.ops.backup.errors import BackupError, DamagedError, WrongPassphraseError
from core.ops.backup.folders import sync
from core.ops.backup.manifest import Member

MEMBER = "secrets.json"
MAX_BYTES = 64 * 2**20
NAMES = ("SECRET_KEY", "API_KEY_PEPPER", "AUDIT_KEY", "AUDIT_SIGNING_KEY", "ENCRYPTION_KEYS")
# 32 MiB and a fifth of a second for each guess. Source: OWASP's cheat sheet on storing passwords.
SCRYPT = {"n": 2**15, "r": 8, "p": 3, "maxmem": 64 * 2**20, "dklen": 32}
SALT_BYTES = 16

Secrets = Mapping[str, str]


def present() -> dict[str, str]:
    """The secrets that this process works with, by the name of their setting."""
    values = {name: getattr(settings, name) for name in NAMES}
    return {name: value if isinstance(value, str) else ",".join(value) for name, value in values.items()}


def seal(passphrase: str, members: Mapping[str, Member]) -> bytes:
    """Encrypt the secrets. members: everything else in the archive."""
    salt = secrets.token_bytes(SALT_BYTES)
    digests = {name: member.sha256 for name, member in members.items()}
    content = json.dumps({"secrets": present(), "digests": digests}).encode()
    token = _cipher(passphrase, salt).encrypt(content)
    return json.dumps({"salt": salt.hex(), "token": token.decode("ascii")}).encode()


def open_sealed(sealed: bytes, passphrase: str, members: Mapping[str, Member]) -> dict[str, str]:
    """Decrypt what `seal` made. Raises WrongPassphraseError, DamagedError."""
    if not passphrase:
        raise WrongPassphraseError(
            "The secrets in the archive are encrypted: set SUTAZAI_BACKUP_PASSPHRASE (or …_FILE) as then."
        )
    try:
        given = json.loads(sealed)
        salt, token = bytes.fromhex(given["salt"]), given["token"].encode("ascii")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError("The secrets in the archive are not what was written.") from error
    try:
        content = json.loads(_cipher(passphrase, salt).decrypt(token))
    except InvalidToken as error:
        raise WrongPassphraseError("SUTAZAI_BACKUP_PASSPHRASE is not that of the backup.") from error
    others = {name: member.sha256 for name, member in members.items() if name != MEMBER}
    if content["digests"] != others:
        raise DamagedError("The archive was changed by somebody who does not know its passphrase.")
    return {name: value for name, value in content["secrets"].items() if name in NAMES}


def environment(found: Secrets) -> dict[str, str]:
    """The variables that give a program these secrets."""
    return {f"SUTAZAI_{name}": value for name, value in found.items()}


def refuse_others(found: Secrets) -> None:
    """Refuse to restore where the environment gives other secrets than the backup's. Raises BackupError."""
    ours = present()
    wrong = [f"SUTAZAI_{name}" for name in found if _is_given(name) and not _does_for(name, ours[name], found[name])]
    if wrong:
        raise BackupError(
            f"The backup was made with another {', '.join(wrong)} than the environment gives. Unset it, so that the"
            " backup's is used, or give the one of then. With --without-secrets those of the environment are used,"
            " whatever they are."
        )


def _does_for(name: str, ours: str, theirs: str) -> bool:
    """Tell whether a secret of ours opens what was made with theirs. New encryption keys go before the old ones."""
    if name == "ENCRYPTION_KEYS":
        return set(_keys(theirs)) <= set(_keys(ours))
    return ours == theirs


def _keys(text: str) -> list[str]:
    return [key.strip() for key in text.split(",")]


def put_in_place(found: Secrets) -> list[str]:
    """Write into files what the environment does not give; returns their names. What was in one is kept beside it."""
    folder: Path = settings.DATA_DIR / "secrets"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    written = []
    for name in found:
        file = folder / name.lower()
        if _is_given(name) or (file.exists() and _does_for(name, file.read_text().strip(), found[name])):
            continue
        if file.exists():
            file.replace(folder / f"{file.name}.before-{secrets.token_hex(4)}")
        _write(file, found[name])
        written.append(str(file))
    return written


def _is_given(name: str) -> bool:
    return any(os.environ.get(f"SUTAZAI_{name}{suffix}") for suffix in ("", "_FILE"))


def _write(file: Path, text: str) -> None:
    handle, part = tempfile.mkstemp(dir=file.parent)  # readable by its owner alone
    with os.fdopen(handle, "w") as opened:
        opened.write(text)
    sync(Path(part))
    Path(part).replace(file)
    sync(file.parent)


def _cipher(passphrase: str, salt: bytes) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(hashlib.scrypt(passphrase.encode(), salt=salt, **SCRYPT)))
