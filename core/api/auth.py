"""Signing in and out by the API: tokens for programs and apps, a session for pages of the same site."""

from typing import Any

from allauth.mfa.models import Authenticator
from django.contrib.auth import authenticate, login, logout
from django.http import HttpRequest
from django.middleware.csrf import get_token
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core.access import tokens
from core.access.authentication import BrowserAuthentication
from core.access.principal import KEY, SESSION, TOKEN, principal_of
from core.access.sign_in import attempts, second_factor
from core.api.serializers import StrictSerializer, TextField, TruthField
from core.exceptions import InvalidInput, Refused
from core.models import Role, User, Verb
from core.net.clients import address_of


class SignInRefused(Refused):
    """No active person has this name or email with this password. The answer is the same whichever is wrong."""

    status = 401
    code = "sign-in-refused"
    title = "The name or the password is wrong"


class SecondFactorNeeded(Refused):
    """The password is right, and not enough: send a code of the second factor too, or set one up at /login."""

    status = 403
    code = "second-factor-required"
    title = "This account signs in with a second factor"


class SignInInput(StrictSerializer):
    """Who signs in. email: or a user name. code: of the authenticator app, or a recovery code, where there is one.

    session: begin a browser session (with a CSRF token) instead of tokens.
    """

    email = TextField(max_length=254)
    password = TextField(max_length=1000)
    code = TextField(max_length=100, required=False)
    session = TruthField(default=False)


class RefreshInput(StrictSerializer):
    refresh = TextField(max_length=tokens.MAX_CHARACTERS)


class SignOutInput(StrictSerializer):
    """refresh: the sign-in to end; without one, the browser session ends."""

    refresh = TextField(required=False, max_length=tokens.MAX_CHARACTERS)


class PairSerializer(serializers.Serializer):
    """access: send it as `Authorization: Bearer`. refresh: buys the next pair, once."""

    access = serializers.CharField()
    refresh = serializers.CharField()
    expires_in_seconds = serializers.IntegerField()


class CsrfSerializer(serializers.Serializer):
    csrf_token = serializers.CharField()


class TeamSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()


class MeSerializer(serializers.Serializer):
    """Who asks, and what they may do. credential: what they came with."""

    id = serializers.UUIDField()
    username = serializers.CharField()
    email = serializers.CharField()
    role = serializers.ChoiceField(choices=Role.choices)
    team = TeamSerializer()
    verbs = serializers.ListField(child=serializers.ChoiceField(choices=Verb.choices))
    credential = serializers.ChoiceField(choices=[SESSION, KEY, TOKEN])


class CsrfView(APIView):
    """The token that a browser sends as X-CSRFToken with every request that changes something."""

    authentication_classes = ()
    permission_classes = [AllowAny]

    @extend_schema(operation_id="auth_csrf", tags=["auth"], responses=CsrfSerializer, auth=[])
    def get(self, request: Request) -> Response:
        return Response({"csrf_token": get_token(request._request)})


class SignInView(APIView):
    """Sign in with a name, or an email, and a password."""

    authentication_classes = ()
    permission_classes = [AllowAny]

    @extend_schema(
        operation_id="auth_login",
        tags=["auth"],
        request=SignInInput,
        responses={200: PairSerializer, 204: None},
        auth=[],
        description="Answers with a pair of tokens; with `session`, 204 and a session cookie.",
    )
    def post(self, request: Request) -> Response:
        wanted = SignInInput(data=request.data)
        wanted.is_valid(raise_exception=True)
        if wanted.validated_data["session"]:
            BrowserAuthentication().enforce_csrf(request)
        user, factor = _check(request._request, wanted.validated_data)
        if wanted.validated_data["session"]:
            login(request._request, user)
            if factor is not None:
                second_factor.note_passed(request._request, user, factor)
            return Response(status=status.HTTP_204_NO_CONTENT)
        return _pair(tokens.begin(user, address=_address(request), user_agent=request.headers.get("User-Agent", "")))


class RefreshView(APIView):
    """Buy the next pair of tokens. Each refresh token works once; one that comes again ends the sign-in."""

    authentication_classes = ()
    permission_classes = [AllowAny]

    @extend_schema(operation_id="auth_refresh", tags=["auth"], request=RefreshInput, responses=PairSerializer, auth=[])
    def post(self, request: Request) -> Response:
        wanted = RefreshInput(data=request.data)
        wanted.is_valid(raise_exception=True)
        return _pair(tokens.refresh(wanted.validated_data["refresh"]))


class SignOutView(APIView):
    """End a sign-in: that of a refresh token, or the browser's session."""

    authentication_classes = [BrowserAuthentication]
    permission_classes = [AllowAny]

    @extend_schema(operation_id="auth_logout", tags=["auth"], request=SignOutInput, responses={204: None})
    def post(self, request: Request) -> Response:
        wanted = SignOutInput(data=request.data)
        wanted.is_valid(raise_exception=True)
        if refresh := wanted.validated_data.get("refresh"):
            tokens.end_by(refresh)
        elif isinstance(request.user, User):
            logout(request._request)
        else:
            raise InvalidInput({"refresh": ["Without a session, say which sign-in ends."]})
        return Response(status=status.HTTP_204_NO_CONTENT)


class MeView(APIView):
    """Who you are here."""

    @extend_schema(operation_id="me", tags=["auth"], responses=MeSerializer)
    def get(self, request: Request) -> Response:
        principal = principal_of(request)
        told: dict[str, Any] = {
            "id": principal.user.pk,
            "username": principal.user.username,
            "email": principal.user.email,
            "role": principal.user.role,
            "team": principal.user.team,
            "verbs": sorted(principal.verbs),
            "credential": principal.kind,
        }
        return Response(MeSerializer(told).data)


def _check(request: HttpRequest, wanted: dict[str, Any]) -> tuple[User, Authenticator | None]:
    """Check a password, and a code where one is needed; returns who it is, and the second factor that was given."""
    attempts.before_attempt(request, wanted["email"])
    user = authenticate(request, username=wanted["email"], password=wanted["password"])
    if not isinstance(user, User):
        raise SignInRefused
    factor = None
    if not second_factor.password_suffices(user):
        if "code" not in wanted:
            raise SecondFactorNeeded
        factor = second_factor.owner_of_code(user, wanted["code"])
        if factor is None:
            raise SignInRefused("The code is not right.")
    attempts.succeeded(request)
    return user, factor


def _pair(pair: tokens.Pair) -> Response:
    response = Response(PairSerializer(pair).data)
    response["Cache-Control"] = "no-store"
    return response


def _address(request: Request) -> str | None:
    return address_of(request._request) or None
