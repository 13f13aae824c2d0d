import stat
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from sutazai import env

LONG = "a secret of more than thirty-two characters"
NAMES = ("SUTAZAI_TEST_SECRET", "SUTAZAI_TEST_SECRET_FILE", "SUTAZAI_TEST_NUMBER", "SUTAZAI_TEST_LIST")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_a_secret_comes_from_the_environment_or_from_a_file(monkeypatch, tmp_path):
    monkeypatch.setenv("SUTAZAI_TEST_SECRET", LONG)
    assert env.secret("SUTAZAI_TEST_SECRET", generated_in=None) == LONG
    monkeypatch.delenv("SUTAZAI_TEST_SECRET")
    (tmp_path / "file").write_text(LONG + "\n")
    monkeypatch.setenv("SUTAZAI_TEST_SECRET_FILE", str(tmp_path / "file"))
    assert env.secret("SUTAZAI_TEST_SECRET", generated_in=None) == LONG


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("", "is missing"),
        ("too short", "has only 9 characters"),
        ("abab" * 20, "repeats itself"),
        ("django-insecure-8a7s6df8as7df68as7d6f87asd6f8", "looks like a placeholder"),
        ("Change-Me-8a7s6df8as7df68as7d6f87asd6f8xyz", "looks like a placeholder"),
    ],
)
def test_a_missing_short_or_default_secret_stops_the_start(monkeypatch, text, flaw):
    monkeypatch.setenv("SUTAZAI_TEST_SECRET", text)
    with pytest.raises(ImproperlyConfigured, match=f"SUTAZAI_TEST_SECRET {flaw}.*token_urlsafe"):
        env.secret("SUTAZAI_TEST_SECRET", generated_in=None)
    with pytest.raises(ImproperlyConfigured, match=f"SUTAZAI_TEST_SECRET {flaw}"):
        env.secrets_list("SUTAZAI_TEST_SECRET", generated_in=None)


def test_anything_can_come_from_a_file_and_a_file_that_is_not_there_stops_the_start(monkeypatch, tmp_path):
    assert env.given("SUTAZAI_TEST_SECRET", default="x") == "x"
    monkeypatch.setenv("SUTAZAI_TEST_SECRET_FILE", str(tmp_path / "file"))
    with pytest.raises(ImproperlyConfigured, match="SUTAZAI_TEST_SECRET_FILE cannot be read"):
        env.given("SUTAZAI_TEST_SECRET")
    (tmp_path / "file").write_text("redis://:password@cache/0\n")
    assert env.given("SUTAZAI_TEST_SECRET", default="x") == "redis://:password@cache/0"
    monkeypatch.setenv("SUTAZAI_TEST_SECRET", "another")
    with pytest.raises(ImproperlyConfigured, match="not both"):
        env.given("SUTAZAI_TEST_SECRET")


def test_a_list_of_secrets_has_the_newest_first_and_is_generated_once(monkeypatch, tmp_path):
    first = env.secrets_list("SUTAZAI_TEST_SECRET", generated_in=tmp_path)
    assert env.secrets_list("SUTAZAI_TEST_SECRET", generated_in=tmp_path) == first
    monkeypatch.setenv("SUTAZAI_TEST_SECRET", f"{LONG} 2, {LONG} 1")
    assert env.secrets_list("SUTAZAI_TEST_SECRET", generated_in=tmp_path) == [f"{LONG} 2", f"{LONG} 1"]


def test_a_list_of_secrets_that_was_restored_into_a_file_is_one_again(tmp_path):
    (tmp_path / "test_secret").write_text(f"{LONG} 2,{LONG} 1")
    assert env.secrets_list("SUTAZAI_TEST_SECRET", generated_in=tmp_path) == [f"{LONG} 2", f"{LONG} 1"]


def test_a_passphrase_is_long_or_not_given(monkeypatch):
    assert env.passphrase("SUTAZAI_TEST_SECRET") == ""
    monkeypatch.setenv("SUTAZAI_TEST_SECRET", "only 15 letters")
    with pytest.raises(ImproperlyConfigured, match="SUTAZAI_TEST_SECRET has only 15 characters"):
        env.passphrase("SUTAZAI_TEST_SECRET")
    monkeypatch.setenv("SUTAZAI_TEST_SECRET", "exactly 16 chars")
    assert env.passphrase("SUTAZAI_TEST_SECRET") == "exactly 16 chars"


def test_networks_are_read_and_nonsense_stops_the_start(monkeypatch):
    monkeypatch.setenv("SUTAZAI_TEST_LIST", "10.0.0.0/8, 192.168.1.7,fd00::/8")
    assert [str(network) for network in env.networks("SUTAZAI_TEST_LIST")] == [
        "10.0.0.0/8",
        "192.168.1.7/32",
        "fd00::/8",
    ]
    for nonsense in ("10.0.0.1/8", "gpu1", "10.0.0.0/33"):
        monkeypatch.setenv("SUTAZAI_TEST_LIST", nonsense)
        with pytest.raises(ImproperlyConfigured, match="SUTAZAI_TEST_LIST"):
            env.networks("SUTAZAI_TEST_LIST")


@pytest.mark.parametrize(
    "text",
    ["*", "null", "https://*.example", "app.example", "https://app.example/", "https://App.example", "https://a@b.c"],
)
def test_an_origin_is_scheme_host_and_port(monkeypatch, text):
    monkeypatch.setenv("SUTAZAI_TEST_LIST", "https://app.example, http://localhost:5173")
    assert env.origins("SUTAZAI_TEST_LIST") == ["https://app.example", "http://localhost:5173"]
    monkeypatch.setenv("SUTAZAI_TEST_LIST", text)
    for read in (env.origins, lambda name: env.origin(name, default="")):
        with pytest.raises(ImproperlyConfigured, match="no origin"):
            read("SUTAZAI_TEST_LIST")


def test_one_origin_is_read_or_its_default(monkeypatch):
    assert env.origin("SUTAZAI_TEST_LIST", default="http://localhost") == "http://localhost"
    monkeypatch.setenv("SUTAZAI_TEST_LIST", "https://app.example")
    assert env.origin("SUTAZAI_TEST_LIST", default="http://localhost") == "https://app.example"


def database(url: str) -> dict[str, Any]:
    return env.database(url, busy_timeout_seconds=1, statement_timeout_seconds=1, pool_max=1, pool_wait_seconds=1)


def test_tls_to_the_database_is_asked_for_in_its_address():
    config = database("postgres://user:pw@db.example/name?sslmode=verify-full&sslrootcert=/etc/ca.pem")
    assert (config["OPTIONS"]["sslmode"], config["OPTIONS"]["sslrootcert"]) == ("verify-full", "/etc/ca.pem")
    assert config["OPTIONS"]["connect_timeout"] == 5  # and ours stand beside it


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
    with pytest.raises((ImproperlyConfigured, ValueError)):
        env.optional_positive_int("SUTAZAI_TEST_NUMBER")


def test_a_number_may_be_zero_where_that_makes_sense(monkeypatch):
    assert env.whole_number("SUTAZAI_TEST_NUMBER", 7) == 7
    monkeypatch.setenv("SUTAZAI_TEST_NUMBER", "0")
    assert env.whole_number("SUTAZAI_TEST_NUMBER", 7) == 0
    monkeypatch.setenv("SUTAZAI_TEST_NUMBER", "-1")
    with pytest.raises(ImproperlyConfigured, match="SUTAZAI_TEST_NUMBER is -1"):
        env.whole_number("SUTAZAI_TEST_NUMBER", 7)


@pytest.mark.parametrize(("text", "number"), [(None, None), ("", None), ("7", 7)])
def test_a_number_that_is_not_given_is_none(monkeypatch, text, number):
    if text is not None:
        monkeypatch.setenv("SUTAZAI_TEST_NUMBER", text)
    assert env.optional_positive_int("SUTAZAI_TEST_NUMBER") == number


def test_another_database_stops_the_start():
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL"):
        database("mysql://localhost/name")
