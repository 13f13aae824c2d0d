import io

import pytest
from django.core.management import CommandError, call_command

from core.access import api_keys
from core.models import ApiKey
from tests.factories import make_user

pytestmark = pytest.mark.django_db


def test_it_prints_a_working_key_alone():
    user = make_user(username="robot")
    out = io.StringIO()
    call_command("create_api_key", user="robot", name="nightly", stdout=out)
    text = out.getvalue().removesuffix("\n")
    assert "\n" not in text
    key = api_keys.verify(text)
    assert key is not None
    assert (key.user, key.name) == (user, "nightly")


@pytest.mark.parametrize("options", [{"user": "nobody"}, {"user": "gone"}, {"user": "robot", "name": "x" * 101}])
def test_it_makes_no_key_that_would_not_work(options):
    make_user(username="robot")
    make_user(username="gone", is_active=False)
    with pytest.raises(CommandError):
        call_command("create_api_key", **options)
    assert not ApiKey.objects.exists()
