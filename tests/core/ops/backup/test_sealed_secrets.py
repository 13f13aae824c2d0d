"""The secrets in an archive: for those who know the passphrase, and nobody else."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from core.ops.backup import sealed_secrets
from core.ops.backup.errors import BackupError, DamagedError, WrongPassphraseError
from core.ops.backup.manifest import Member
from tests.core.ops.backup.conftest import PASSPHRASE

MEMBERS = {"database.sqlite3.gz": Member(1, "a" * 64)}


@pytest.fixture
def sealed(settings: Any) -> bytes:
    settings.ENCRYPTION_KEYS = ["new" * 12, "old" * 12]
    return sealed_secrets.seal(PASSPHRASE, MEMBERS)


def test_who_knows_the_passphrase_reads_them_all(sealed: bytes) -> None:
    found = sealed_secrets.open_sealed(sealed, PASSPHRASE, {**MEMBERS, sealed_secrets.MEMBER: Member(2, "b" * 64)})
    assert found == sealed_secrets.present()
    assert found["ENCRYPTION_KEYS"] == f"{'new' * 12},{'old' * 12}"


def test_they_do_not_stand_in_it(sealed: bytes) -> None:
    text = sealed.decode()
    assert not [name for name, value in sealed_secrets.present().items() if value in text]


@pytest.mark.parametrize("passphrase", ["", PASSPHRASE + "!", "another passphrase"])
def test_others_do_not(sealed: bytes, passphrase: str) -> None:
    with pytest.raises(WrongPassphraseError):
        sealed_secrets.open_sealed(sealed, passphrase, MEMBERS)


def test_whoever_changed_the_rest_of_the_archive_is_found(sealed: bytes) -> None:
    with pytest.raises(DamagedError, match="does not know its passphrase"):
        sealed_secrets.open_sealed(sealed, PASSPHRASE, {"database.sqlite3.gz": Member(1, "c" * 64)})


@pytest.mark.parametrize("content", [b"", b"[]", b'{"salt": "zz", "token": ""}', b'{"salt": "00", "token": 1}'])
def test_what_makes_no_sense_is_damage(content: bytes) -> None:
    with pytest.raises(DamagedError):
        sealed_secrets.open_sealed(content, PASSPHRASE, MEMBERS)


def test_they_take_the_places_of_generated_ones(settings: Any, tmp_path: Path, monkeypatch: Any) -> None:
    settings.DATA_DIR = tmp_path
    for name in [name for name in os.environ if name.startswith("SUTAZAI_")]:
        monkeypatch.delenv(name)
    found = {"SECRET_KEY": "s" * 40, "API_KEY_PEPPER": "p" * 40}
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "secret_key").write_text("generated")
    (folder / "api_key_pepper").write_text("p" * 40)

    written = sealed_secrets.put_in_place(found)

    assert written == [str(folder / "secret_key")]
    assert (folder / "secret_key").read_text() == "s" * 40
    assert (folder / "secret_key").stat().st_mode & 0o777 == 0o600
    (kept,) = folder.glob("secret_key.before-*")
    assert kept.read_text() == "generated"


def test_those_of_the_environment_stay_and_have_to_be_the_same(
    settings: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    settings.DATA_DIR = tmp_path
    monkeypatch.setenv("SUTAZAI_AUDIT_KEY", settings.AUDIT_KEY)
    sealed_secrets.refuse_others({"AUDIT_KEY": settings.AUDIT_KEY})
    assert sealed_secrets.put_in_place({"AUDIT_KEY": settings.AUDIT_KEY}) == []
    with pytest.raises(BackupError, match="SUTAZAI_AUDIT_KEY"):
        sealed_secrets.refuse_others({"AUDIT_KEY": "another" * 6})


def test_encryption_keys_may_have_got_new_ones_since(settings: Any, tmp_path: Path, monkeypatch: Any) -> None:
    old, new = "o" * 43 + "=", "n" * 43 + "="
    settings.DATA_DIR, settings.ENCRYPTION_KEYS = tmp_path, [new, old]
    monkeypatch.setenv("SUTAZAI_ENCRYPTION_KEYS", f"{new}, {old}")
    sealed_secrets.refuse_others({"ENCRYPTION_KEYS": old})
    with pytest.raises(BackupError, match=r"SUTAZAI_ENCRYPTION_KEYS.* --without-secrets"):
        sealed_secrets.refuse_others({"ENCRYPTION_KEYS": f"{old},{'x' * 43}="})

    monkeypatch.delenv("SUTAZAI_ENCRYPTION_KEYS")
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "encryption_keys").write_text(f"{new},{old}\n")
    assert sealed_secrets.put_in_place({"ENCRYPTION_KEYS": old}) == []
    assert sealed_secrets.put_in_place({"ENCRYPTION_KEYS": "x" * 43 + "="}) == [str(folder / "encryption_keys")]


def test_what_is_sealed_is_json_of_a_salt_and_a_token(sealed: bytes) -> None:
    assert set(json.loads(sealed)) == {"salt", "token"}
    assert json.loads(sealed)["salt"] != json.loads(sealed_secrets.seal(PASSPHRASE, MEMBERS))["salt"]
