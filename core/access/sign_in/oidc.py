"""OpenID Connect, as strictly as the standard asks: allauth's client, with what it leaves out.

allauth brings the authorization code flow, state and PKCE. It sends no nonce, does not check the signature of an ID
token that it fetched itself, and lets the query string of its own page set any parameter of the request; this module
adds or removes these. Source: OpenID Connect Core 1.0, sections 3.1.2 and 3.1.3.7; 5.3.2 for the user's information.
"""

import hmac
import secrets
from collections.abc import Mapping
from typing import Any

import requests
from allauth.core.internal.deferred import jwt  # imported when used: workers load this module and never need it
from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.models import SocialApp, SocialLogin, SocialToken
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView, OAuth2LoginView
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.http import Http404, HttpRequest, HttpResponse

# Signatures with a key pair only: a shared secret as a key is how tokens are forged.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
KEY_TYPES = {"RSA", "EC", "OKP"}
CLOCK_SKEW_SECONDS = 30
NONCE_BYTES = 24


class Client(OpenIDConnectOAuth2Adapter):
    """One sign-in's conversation with the provider."""

    expected_nonce = ""

    @property
    def openid_config(self) -> dict[str, Any]:
        """The provider's own description; it must be the configured issuer's."""
        config: dict[str, Any] = super().openid_config
        expected = self.get_provider().app.settings["server_url"]
        if not isinstance(config, dict) or config.get("issuer") != expected:
            raise OAuth2Error(f"The provider does not call itself {expected}.")
        missing = {"authorization_endpoint", "token_endpoint", "jwks_uri"} - config.keys()
        if missing:
            raise OAuth2Error(f"The provider does not tell its {', '.join(sorted(missing))}.")
        return config

    def complete_login(self, request: HttpRequest, app: SocialApp, token: SocialToken, **kwargs: Any) -> SocialLogin:
        id_token = kwargs["response"].get("id_token")
        if not isinstance(id_token, str):
            raise OAuth2Error("The provider sent no ID token.")
        claims = check_id_token(
            id_token,
            keys=self._get_json(self.openid_config["jwks_uri"]),
            issuer=self.openid_config["issuer"],
            client_id=app.client_id,
            nonce=self.expected_nonce,
        )
        data = {"id_token": claims}
        if "email" not in claims and "userinfo_endpoint" in self.openid_config:
            data["userinfo"] = self._user_information(token.token, claims["sub"])
        return self.get_provider().sociallogin_from_response(request, data)

    def _user_information(self, access_token: str, subject: str) -> dict[str, Any]:
        found = self._get_json(self.profile_url, {"Authorization": f"Bearer {access_token}"})
        if found.get("sub") != subject:
            raise OAuth2Error("The user's information is about somebody else.")
        return found

    def _get_json(self, url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        with get_adapter().get_requests_session() as session:
            response = session.get(url, headers=headers)
            response.raise_for_status()
            found = response.json()
        if not isinstance(found, dict):
            raise OAuth2Error(f"{url} did not answer with an object.")
        return found


def check_id_token(token: str, *, keys: Mapping[str, Any], issuer: str, client_id: str, nonce: str) -> dict[str, Any]:
    """Check an ID token's signature, issuer, audience, times and nonce; returns its claims.

    keys: the provider's JWK set. Raises OAuth2Error.
    """
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            _signing_key(token, keys),
            algorithms=ALGORITHMS,
            audience=client_id,
            issuer=issuer,
            leeway=CLOCK_SKEW_SECONDS,
            options={"require": ["iss", "sub", "aud", "exp", "iat"]},
        )
    except jwt.PyJWTError as error:
        raise OAuth2Error(f"The ID token is not valid: {error}") from error
    is_for_many = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if claims.get("azp", None if is_for_many else client_id) != client_id:
        raise OAuth2Error("The ID token was issued to another program.")
    if not nonce or not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
        raise OAuth2Error("The ID token belongs to another sign-in.")
    return claims


def _signing_key(token: str, keys: Mapping[str, Any]) -> Any:
    key_id = jwt.get_unverified_header(token).get("kid")
    usable = [
        key
        for key in jwt.PyJWKSet.from_dict(dict(keys)).keys
        if key.key_type in KEY_TYPES and key.public_key_use in {"sig", None} and key_id in {key.key_id, None}
    ]
    if len(usable) != 1:
        raise OAuth2Error("The ID token's key is not one of the provider's.")
    return usable[0]


class Provider(OpenIDConnectProvider):
    """The provider from the settings. allauth finds it through SOCIALACCOUNT_PROVIDERS."""

    oauth2_adapter_class = Client

    def get_scope_from_request(self, request: HttpRequest) -> list[str]:
        return list(self.get_scope())

    def get_auth_params_from_request(self, request: HttpRequest, action: str) -> dict[str, str]:
        """Ask people who confirm that it is them for their password, though the provider still knows them."""
        return {"prompt": "login"} if "again" in request.GET else {}

    def redirect(
        self, request: HttpRequest, process: str, next_url: str | None = None, data: Any = None, **kwargs: Any
    ) -> HttpResponse:
        nonce = secrets.token_urlsafe(NONCE_BYTES)
        kwargs["auth_params"] = {**(kwargs.get("auth_params") or {}), "nonce": nonce}
        try:
            response: HttpResponse = super().redirect(request, process, next_url, data, nonce=nonce, **kwargs)
        except (OAuth2Error, requests.RequestException) as error:
            response = render_authentication_error(request, self, exception=error)
        return response


class CallbackView(OAuth2CallbackView):
    adapter: Client

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            response: HttpResponse = super().dispatch(request, *args, **kwargs)
        except (OAuth2Error, requests.RequestException, KeyError, ValueError) as error:
            # What allauth does not expect of a provider: that it is away by now, or answers nonsense.
            response = render_authentication_error(request, self.adapter.get_provider(), exception=error)
        return response

    def _get_state(self, request: HttpRequest, provider: Provider) -> tuple[dict[str, Any] | None, Any]:
        state, response = super()._get_state(request, provider)
        self.adapter.expected_nonce = (state or {}).get("nonce", "")
        return state, response


def sign_in(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Lead to the provider."""
    return _through(OAuth2LoginView, request, provider_id)


def callback(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Receive whoever comes back from the provider."""
    return _through(CallbackView, request, provider_id)


def _through(view: Any, request: HttpRequest, provider_id: str) -> HttpResponse:
    try:
        response: HttpResponse = view.adapter_view(Client(request, provider_id))(request)
    except SocialApp.DoesNotExist as error:
        raise Http404 from error
    return response
