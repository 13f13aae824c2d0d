"""What a person may do. Whose rows they may do it to stands in `ownership`."""

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from core.models import User


class IsOperator(BasePermission):
    """For operators only."""

    message = "Only operators may do this."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.user, User) and request.user.is_operator


class IsOperatorOrReads(IsOperator):
    """Everybody who is signed in may look; operators may change."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if request.method in SAFE_METHODS:
            return bool(request.user.is_authenticated)
        return super().has_permission(request, view)
