"""What may be done. Whose rows it may be done to stands in `ownership`."""

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from core.access.principal import principal_of
from core.models import ApiKey, User, Verb


class MayDoIt(BasePermission):
    """Ask the person's role, and the scope of their key, for the verb of what is asked.

    A view names its verbs: `read_verb` for requests that change nothing, `write_verb` for all others. A view that
    names none may be read by everybody who is signed in, and changed by operators.
    """

    def has_permission(self, request: Request, view: object) -> bool:
        if not isinstance(request.user, User):
            return False
        wanted = verb_of(request.method or "", view)
        self.message = f"This takes the right to {wanted.value!r}, which your role or your credential does not have."
        return wanted in principal_of(request).verbs


class IsPerson(BasePermission):
    """For what no API key may change: whoever stole one would hide, or stay, by it."""

    message = "Sign in to change this; an API key cannot."

    def has_permission(self, request: Request, view: object) -> bool:
        return request.method in SAFE_METHODS or not isinstance(request.auth, ApiKey)


def verb_of(method: str, view: object) -> Verb:
    """Name what a person must be allowed to do to use a method of a view."""
    if method in SAFE_METHODS:
        return getattr(view, "read_verb", Verb.READ)
    return getattr(view, "write_verb", Verb.OPERATE)
