"""An OpenID Connect provider over real HTTP, which can lie: in its ID token, its description and its answers.

A test plays the browser: it takes the address to which the program leads, lets `authorize` answer for the person, and
opens the address that comes back.
"""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT_ID = "sutazai"
CLIENT_SECRET = "known to two"
KEY_ID = "first"


class IdentityProvider:
    """One provider. Change `person`, `lies` and `description` to have it say something else."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.foreign_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.person: dict[str, Any] = {"sub": "p-1", "email": "ada@example.com", "email_verified": True}
        self.lies: dict[str, Any] = {}  # claims of the ID token that differ from the truth; None leaves one out
        self.description: dict[str, Any] = {}  # the same for the description
        self.user_information: dict[str, Any] = {}
        self.signs_with: Any = self.key
        self.algorithm = "RS256"
        self.status = 0  # to answer everything with, if it is one
        self.asked: list[str] = []
        self._grants: dict[str, dict[str, str]] = {}

    def authorize(self, address: str) -> str:
        """Sign the person in at the address that the program leads to; returns where the browser goes next."""
        parts = urlsplit(address)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{self.url}/authorize"
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT_ID
        assert asked["code_challenge_method"] == "S256"
        assert {"openid", "email"} <= set(asked["scope"].split())
        code = secrets.token_urlsafe(8)
        self._grants[code] = asked
        back = urlsplit(asked["redirect_uri"])
        return f"{back.path}?{urlencode({'code': code, 'state': asked['state']})}"

    def answer(self, path: str, form: dict[str, str]) -> tuple[int, Any]:
        self.asked.append(path)
        if self.status:
            return self.status, {}
        if path == "/.well-known/openid-configuration":
            return 200, self._described()
        if path == "/keys":
            key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
            return 200, {"keys": [{**key, "kid": KEY_ID, "use": "sig", "alg": "RS256"}]}
        if path == "/userinfo":
            return 200, {**self.person, **self.user_information}
        if path == "/token":
            return self._token(form)
        return 404, {}

    def _described(self) -> dict[str, Any]:
        truth = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "jwks_uri": f"{self.url}/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }
        return {**truth, **self.description}

    def _token(self, form: dict[str, str]) -> tuple[int, Any]:
        asked = self._grants.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or challenge != asked["code_challenge"] or form.get("client_secret") != CLIENT_SECRET:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        truth = {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        claims = {name: value for name, value in {**truth, **self.person, **self.lies}.items() if value is not None}
        token = jwt.encode(claims, self.signs_with, self.algorithm, headers={"kid": KEY_ID})
        return 200, {"access_token": "a", "token_type": "Bearer", "id_token": token}


class _Handler(BaseHTTPRequestHandler):
    provider: IdentityProvider

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._answer({name: values[0] for name, values in parse_qs(body).items()})

    def _answer(self, form: dict[str, str]) -> None:
        status, found = self.provider.answer(urlsplit(self.path).path, form)
        body = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def identity_provider() -> Iterator[IdentityProvider]:
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    handler.provider = IdentityProvider(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield handler.provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
