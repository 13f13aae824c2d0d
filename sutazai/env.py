"""Reads settings from the environment; stops loudly on a value that makes no sense."""

import os
import re
import secrets
import tempfile
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

env = environ.Env()

MIN_SECRET_LENGTH = 32
MIN_PASSPHRASE_LENGTH = 16
MIN_DIFFERENT_CHARACTERS = 8  # 32 random characters of hex have hardly ever fewer than 9, of base64 19
# What stands in examples; by chance it stands in no random secret.
_PLACEHOLDER = re.compile(
    r"(?i)change.?me|insecure|password|placeholder|example|default.?secret|your.?secret|12345678"
)


def given(name: str, default: str = "") -> str:
    """Read NAME, or else the file that NAME_FILE names, without the white space around its text."""
    value: str = env.str(name, default="")
    file_name: str = env.str(f"{name}_FILE", default="")
    if not file_name:
        return value or default
    if value:
        raise ImproperlyConfigured(f"Set {name} or {name}_FILE, not both.")
    try:
        return Path(file_name).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"{name}_FILE cannot be read: {error}.") from error


def secret(name: str, *, generated_in: Path | None) -> str:
    """Read a secret that is `given`, or (outside production) from a file generated once.

    generated_in: folder for the generated file, or None where a missing secret must stop the start.
    """
    value = given(name)
    if not value and generated_in is not None:
        value = _generated(_file_of(name, generated_in))
    return _strong(name, value)


def optional_secret(name: str) -> str:
    """Read a secret that is `given`; empty where none is."""
    value = given(name)
    return _strong(name, value) if value else ""


def secrets_list(name: str, *, generated_in: Path | None) -> list[str]:
    """Read one or more secrets with commas between them, newest first, as `secret` reads one."""
    value = given(name)
    if not value and generated_in is not None:
        value = _generated(_file_of(name, generated_in))
    return [_strong(name, text.strip()) for text in value.split(",")]


def passphrase(name: str) -> str:
    """Read NAME, from which a key is derived slowly, so that it may be shorter than a secret; empty: not given."""
    value = given(name)
    if value and len(value) < MIN_PASSPHRASE_LENGTH:
        raise ImproperlyConfigured(
            f"{name} has only {len(value)} characters; give it {MIN_PASSPHRASE_LENGTH} or more, such as five words."
        )
    return value


def _strong(name: str, value: str) -> str:
    """Return a secret that nobody guesses; raises ImproperlyConfigured for any other."""
    if len(value) < MIN_SECRET_LENGTH:
        flaw = "is missing" if not value else f"has only {len(value)} characters"
    elif len(set(value)) < MIN_DIFFERENT_CHARACTERS:
        flaw = "repeats itself"
    elif _PLACEHOLDER.search(value):
        flaw = "looks like a placeholder"
    else:
        return value
    raise ImproperlyConfigured(
        f"{name} {flaw}. Set it (or {name}_FILE) to at least {MIN_SECRET_LENGTH} random characters, such as: "
        'python -c "import secrets; print(secrets.token_urlsafe(48))"'
    )


def _file_of(name: str, folder: Path) -> Path:
    return folder / name.removeprefix("SUTAZAI_").lower()


def _generated(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as file:  # readable by its owner alone
            file.write(secrets.token_urlsafe(48))
            file.flush()
            # A link appears whole, and only once: two first starts agree on one secret.
            with suppress(FileExistsError):
                os.link(file.name, path)
    return path.read_text().strip()


def one_of(name: str, choices: tuple[str, ...]) -> str:
    """Read NAME, which must be one of choices; the first is the default."""
    value: str = env.str(name, default=choices[0])
    if value not in choices:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be one of {', '.join(choices)}.")
    return value


def positive_int(name: str, default: int) -> int:
    value: int = env.int(name, default=default)
    if value <= 0:
        raise ImproperlyConfigured(f"{name} is {value}; it must be a positive whole number.")
    return value


def whole_number(name: str, default: int) -> int:
    """Read NAME, a number that may be zero."""
    value: int = env.int(name, default=default)
    if value < 0:
        raise ImproperlyConfigured(f"{name} is {value}; it must be a whole number, 0 or more.")
    return value


def optional_positive_int(name: str) -> int | None:
    """Read NAME; None where it is not set."""
    return positive_int(name, 1) if env.str(name, default="") else None


def positive_float(name: str, default: float) -> float:
    value: float = env.float(name, default=default)
    if not 0 < value < float("inf"):
        raise ImproperlyConfigured(f"{name} is {value}; it must be a positive number.")
    return value


def networks(name: str, default: tuple[str, ...] = ()) -> tuple[IPv4Network | IPv6Network, ...]:
    """Read NAME, networks such as 10.0.0.0/8 with commas between them; a lone address is a network of one."""
    texts: list[str] = env.list(name, default=list(default))
    try:
        return tuple(ip_network(text.strip()) for text in texts if text.strip())
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} is not a list of networks: {error}.") from error


def origin(name: str, *, default: str) -> str:
    """Read NAME, one web origin such as https://app.example."""
    value: str = env.str(name, default="").strip()
    return _checked_origin(name, value) if value else default


def origins(name: str) -> list[str]:
    """Read NAME, web origins such as https://app.example with commas between them; patterns and "null" are none."""
    return [_checked_origin(name, text.strip()) for text in env.list(name, default=[]) if text.strip()]


def _checked_origin(name: str, text: str) -> str:
    parts = urlsplit(text)
    is_origin = parts.scheme in {"http", "https"} and parts.hostname and text == f"{parts.scheme}://{parts.netloc}"
    if not is_origin or "*" in text or "@" in text or text != text.lower():
        raise ImproperlyConfigured(
            f"{name} holds {text!r}, which is no origin: write https://app.example, in small letters, no path."
        )
    return text


def database(
    url: str,
    *,
    busy_timeout_seconds: float,
    statement_timeout_seconds: float,
    pool_max: int,
    pool_wait_seconds: float,
) -> dict[str, Any]:
    """Turn a database URL into Django's settings for it: SQLite or PostgreSQL."""
    config: dict[str, Any] = env.db_url_config(url)
    if config["ENGINE"] == "django.db.backends.sqlite3":
        config["ENGINE"] = "core.sqlite"
        config["CONN_MAX_AGE"] = None
        config["OPTIONS"] = {
            # Writers queue at BEGIN, where the busy timeout applies, instead of failing at their first write.
            "transaction_mode": "IMMEDIATE",
            "timeout": busy_timeout_seconds,
            # FULL: a commit that was answered survives the loss of power.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-16000;",
        }
        # Tests need a file: an in-memory database is not shared between the threads and processes under test.
        config["TEST"] = {"NAME": str(Path(config["NAME"]).parent / "test.sqlite3")}
        return config
    if config["ENGINE"] == "django.db.backends.postgresql":
        config["ENGINE"] = "core.postgresql"
        config["CONN_MAX_AGE"] = 0  # the pool keeps the connections
        config.setdefault("OPTIONS", {}).update(
            {
                # One connection is enough for commands; who serves keeps more ready (core.postgresql.pool). The pool
                # waits twice as long after each try that failed: a server that was away for a minute would be missed
                # for another. So it soon gives up, and begins anew with whoever asks next.
                "pool": {
                    "min_size": 1,
                    "max_size": pool_max,
                    "timeout": pool_wait_seconds,
                    "max_idle": 300,
                    "reconnect_timeout": 3,
                },
                # What a connection sends again and again is parsed and planned once: half of PostgreSQL's work.
                "server_side_binding": True,
                "prepare_threshold": 5,
                "connect_timeout": 5,
                "options": (
                    f"-c statement_timeout={int(statement_timeout_seconds * 1000)}"
                    f" -c lock_timeout={int(busy_timeout_seconds * 1000)} -c jit=off -c random_page_cost=1.1"
                    # A process that is stopped in the middle of a transaction keeps nobody else waiting for its locks.
                    f" -c idle_in_transaction_session_timeout={int(statement_timeout_seconds * 1000)}"
                ),
            }
        )
        return config
    raise ImproperlyConfigured("DATABASE_URL must begin with sqlite:// or postgres://.")
