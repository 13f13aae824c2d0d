"""An OpenID Connect provider over real HTTP, which can lie: in its ID token, its description and its answers.

A test plays the browser: it takes the address to which the program leads, lets `authorize` answer for the person, and
opens the address that comes back.
"""

import base64
import functools
import hashlib
import json
import secrets
import time
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.servers import WebServer

CLIENT_ID = "sutazai"
CLIENT_SECRET = "known to two"
KEY_ID = "first"


class IdentityProvider(WebServer):
    """One provider. Change `person`, `lies` and `description` to have it say something else."""

    def __init__(self) -> None:
        super().__init__()
        self.key, self.foreign_key = _private_key("own"), _private_key("foreign")
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
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{self.address}/authorize"
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT_ID
        assert asked["code_challenge_method"] == "S256"
        assert {"openid", "email"} <= set(asked["scope"].split())
        code = secrets.token_urlsafe(8)
        self._grants[code] = asked
        back = urlsplit(asked["redirect_uri"])
        return f"{back.path}?{urlencode({'code': code, 'state': asked['state']})}"

    def take(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        status, found = self._answer(urlsplit(request.path).path, form)
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.end_headers()
        request.wfile.write(json.dumps(found).encode())

    def _answer(self, path: str, form: dict[str, str]) -> tuple[int, Any]:
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
            "issuer": self.address,
            "authorization_endpoint": f"{self.address}/authorize",
            "token_endpoint": f"{self.address}/token",
            "userinfo_endpoint": f"{self.address}/userinfo",
            "jwks_uri": f"{self.address}/keys",
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
        truth = {"iss": self.address, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        claims = {name: value for name, value in {**truth, **self.person, **self.lies}.items() if value is not None}
        token = jwt.encode(claims, self.signs_with, self.algorithm, headers={"kid": KEY_ID})
        return 200, {"access_token": "a", "token_type": "Bearer", "id_token": token}


@functools.cache
def _private_key(of: str) -> rsa.RSAPrivateKey:
    """Made once for all tests: it takes a tenth of a second."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)
