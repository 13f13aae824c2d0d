"""What may be done. Whose rows it may be done to stands in `ownership`."""

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from core.access.principal import SESSION, principal_of
from core.access.sign_in import recent
from core.models import ApiKey, User, Verb


class MayDoIt(BasePermission):
    """Ask the person's role, and the scope of their key, for the verb of what is asked.

    A view names its verbs: `read_verb` for requests that change nothing, `write_verb` for all others; of several, one
    suffices. A view that names none may be read by everybody who is signed in, and changed by operators.
    """

    def has_permission(self, request: Request, view: object) -> bool:
        if not isinstance(request.user, User):
            return False
        wanted = verbs_of(request.method or "", view)
        names = " or ".join(repr(verb.value) for verb in wanted)
        self.message = f"This takes the right to {names}, which your role or your credential does not have."
        return not principal_of(request).verbs.isdisjoint(wanted)


class IsPerson(BasePermission):
    """For what no API key may change: whoever stole one would hide, or stay, by it."""

    message = "Sign in to change this; an API key cannot."

    def has_permission(self, request: Request, view: object) -> bool:
        return request.method in SAFE_METHODS or not isinstance(request.auth, ApiKey)


class SignedInRecently(BasePermission):
    """For what is dangerous: a browser that was left open is not enough. Keys and tokens pass."""

    message = "Sign in again, or confirm that it is you, and repeat the request."
    code = "sign-in-not-recent"

    def has_permission(self, request: Request, view: object) -> bool:
        return principal_of(request).kind != SESSION or recent.is_recent(request._request)


def verbs_of(method: str, view: object) -> tuple[Verb, ...]:
    """Name what a person must be allowed to do, any of it, to use a method of a view."""
    if method in SAFE_METHODS:
        verbs: Verb | tuple[Verb, ...] = getattr(view, "read_verb", Verb.READ)
    else:
        verbs = getattr(view, "write_verb", Verb.OPERATE)
    return verbs if isinstance(verbs, tuple) else (verbs,)
