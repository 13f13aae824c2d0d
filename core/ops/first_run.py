"""What every start makes sure of, before anything serves: an operator, and what the applications register.

Steps run in the order of their registration, at every start; each does nothing where nothing is missing.
"""

import secrets
from collections.abc import Callable

from django.conf import settings
from django.db import transaction
from django.utils.module_loading import autodiscover_modules

from core import audit
from core.models import User

Step = Callable[[], list[str]]

OPERATOR = "operator"
PASSWORD_BYTES = 12

_steps: dict[str, Step] = {}


def step(name: str) -> Callable[[Step], Step]:
    """Register a function. It returns lines for the operator who started the program; none when there is no news.

    name: what it makes sure of, for people: "model nodes".
    """

    def register(function: Step) -> Step:
        _steps[name] = function
        return function

    return register


def run_all() -> list[str]:
    """Run all steps, those in the module `first_run` of each application too; return what they tell the operator."""
    autodiscover_modules("first_run")
    return [line for function in _steps.values() for line in function()]


@step("first operator")
def ensure_operator() -> list[str]:
    """Create a first operator, unless somebody can use the console already."""
    if User.objects.filter(is_staff=True, is_active=True).exists():
        return []
    password = settings.OPERATOR_PASSWORD or secrets.token_urlsafe(PASSWORD_BYTES)
    with transaction.atomic(), audit.acting(credential="first run"):
        person = User.objects.create_superuser(username=OPERATOR, password=password)
        audit.record("user.added", target=person, after=person)
    if settings.OPERATOR_PASSWORD:
        return [f"Sign in as {OPERATOR}, with the password from SUTAZAI_OPERATOR_PASSWORD."]
    return [f"Sign in as {OPERATOR}, password {password} (shown only now; change it in the console)."]
