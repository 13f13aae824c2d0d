import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.exceptions import ImproperlyConfigured

from sutazai import env

LONG = "a secret of more than thirty-two characters"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in ("SUTAZAI_TEST_SECRET", "SUTAZAI_TEST_SECRET_FILE", "SUTAZAI_TEST_NUMBER"):
        monkeypatch.delenv(name, raising=False)


def test_a_secret_comes_from_the_environment_or_from_a_file(monkeypatch, tmp_path):
    monkeypatch.setenv("SUTAZAI_TEST_SECRET", LONG)
    assert env.secret("SUTAZAI_TEST_SECRET", generated_in=None) == LONG
    monkeypatch.delenv("SUTAZAI_TEST_SECRET")
    (tmp_path / "file").write_text(LONG + "\n")
    monkeypatch.setenv("SUTAZAI_TEST_SECRET_FILE", str(tmp_path / "file"))
    assert env.secret("SUTAZAI_TEST_SECRET", generated_in=None) == LONG


@pytest.mark.parametrize("text", ["", "too short"])
def test_a_missing_or_short_secret_stops_the_start(monkeypatch, text):
    monkeypatch.setenv("SUTAZAI_TEST_SECRET", text)
    with pytest.raises(ImproperlyConfigured, match="SUTAZAI_TEST_SECRET"):
        env.secret("SUTAZAI_TEST_SECRET", generated_in=None)


def test_two_first_starts_agree_on_one_secret_that_only_its_owner_reads(tmp_path):
    folder = tmp_path / "secrets"
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: env.secret("SUTAZAI_TEST_SECRET", generated_in=folder), range(32)))
    assert len(found) == 1
    (file,) = folder.iterdir()
    assert found == {file.read_text()}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_a_number_that_makes_no_sense_stops_the_start(monkeypatch, text):
    monkeypatch.setenv("SUTAZAI_TEST_NUMBER", text)
    with pytest.raises((ImproperlyConfigured, ValueError)):
        env.positive_int("SUTAZAI_TEST_NUMBER", 1)


def test_another_database_stops_the_start():
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL"):
        env.database("mysql://localhost/name", busy_timeout_seconds=1, statement_timeout_seconds=1, pool_max=1)
