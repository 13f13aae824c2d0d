"""Addresses of sign-in and account pages. Names that begin with account_, mfa_, socialaccount_ are allauth's."""

from allauth.account import views as account
from allauth.socialaccount import views as social
from django.urls import include, path, re_path

from core.access.sign_in import oidc
from core.account import views
from core.api.routers import either_way

_own = [
    path("", views.overview, name="account"),
    path("devices/sign-out/", views.sign_out_others, name="account_sign_out_others"),
    path("devices/<uuid:device_id>/sign-out/", views.sign_out_device, name="account_sign_out_device"),
    path("invitation/", views.accept_invitation, name="account_invitation"),
    path("invitation/<str:token>/", views.open_invitation, name="account_invitation_link"),
    path("inactive/", account.account_inactive, name="account_inactive"),
    path("sign-up/", account.signup, name="account_signup"),
    path("confirm/", account.reauthenticate, name="account_reauthenticate"),
]
_passwords = [
    path("change/", account.password_change, name="account_change_password"),
    path("set/", account.password_set, name="account_set_password"),
    path("reset/", views.only_with_email(account.password_reset), name="account_reset_password"),
    path("reset/sent/", views.only_with_email(account.password_reset_done), name="account_reset_password_done"),
    path(
        "reset/done/",
        views.only_with_email(account.password_reset_from_key_done),
        name="account_reset_password_from_key_done",
    ),
    re_path(
        r"^reset/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        views.only_with_email(account.password_reset_from_key),
        name="account_reset_password_from_key",
    ),
]
_providers = [
    path("", social.connections, name="socialaccount_connections"),
    path("cancelled/", social.login_cancelled, name="socialaccount_login_cancelled"),
    path("error/", social.login_error, name="socialaccount_login_error"),
    path("sign-up/", social.signup, name="socialaccount_signup"),
    path("<slug:provider_id>/", oidc.sign_in, name="openid_connect_login"),
    path("<slug:provider_id>/callback/", oidc.callback, name="openid_connect_callback"),
]
urlpatterns = [
    either_way("login", account.login, "account_login"),
    either_way("logout", account.logout, "account_logout"),
    path("account/", include(_own)),
    path("account/password/", include(_passwords)),
    path("account/second-factor/", include("allauth.mfa.urls")),
    path("account/providers/", include(_providers)),
]
