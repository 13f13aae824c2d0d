"""A production server, and how clients come to it through a reverse proxy."""

import secrets
from pathlib import Path
from typing import Any

import requests

from tests.program import PATIENCE_SECONDS, Program

HOST = "sutazai.example"
PASSWORD = "canary-of-the-operator"
TIMEOUT = PATIENCE_SECONDS
SECRETS = (
    "SUTAZAI_SECRET_KEY",
    "SUTAZAI_API_KEY_PEPPER",
    "SUTAZAI_ENCRYPTION_KEYS",
    "SUTAZAI_AUDIT_KEY",
    "SUTAZAI_AUDIT_SIGNING_KEY",
)


def production_program(folder: Path, **more: str) -> Program:
    """A server with secrets of its own, one of them from a file. more: further settings."""
    values = {name: secrets.token_urlsafe(48) for name in SECRETS}
    file = folder / "secret-key"
    file.write_text(values.pop("SUTAZAI_SECRET_KEY"))
    return Program(
        folder,
        SUTAZAI_ENV="production",
        SUTAZAI_ALLOWED_HOSTS=HOST,
        SUTAZAI_SECRET_KEY_FILE=str(file),
        SUTAZAI_OPERATOR_PASSWORD=PASSWORD,
        **values,
        **more,
    )


def ask(program: Program, method: str, path: str, **more: Any) -> requests.Response:
    """Ask as a reverse proxy on this machine does, on behalf of a client who came by HTTPS."""
    headers = {"Host": HOST, "X-Forwarded-Proto": "https", **more.pop("headers", {})}
    url = f"{program.url}{path}"
    return requests.request(method, url, headers=headers, allow_redirects=False, timeout=TIMEOUT, **more)
