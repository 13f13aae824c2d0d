import io
from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command

from core.access import api_keys
from core.models import ApiKey
from tests.factories import make_user

pytestmark = pytest.mark.django_db


def make(*options):
    """Run the command as a shell does; returns what it printed."""
    out = io.StringIO()
    call_command("create_api_key", *options, stdout=out)
    return out.getvalue()


def test_it_prints_a_working_key_alone():
    user = make_user(username="robot")
    text = make("--user", "robot", "--name", "nightly").removesuffix("\n")
    assert "\n" not in text
    key = api_keys.verify(text)
    assert key is not None
    assert (key.user, key.name) == (user, "nightly")
    assert (key.verbs, key.agent_names, key.model_names, key.expires_at) == ([], [], [], None)


def test_it_limits_the_key_to_what_is_named():
    make_user(username="robot")
    limits = ["--verbs", "submit", "read", "--agents", "helper", "--agents", "analyst", "helper", "--models", "tiny"]
    make("--user", "robot", *limits, "--expires-at", "2100-01-31")
    key = ApiKey.objects.get()
    assert (key.verbs, key.agent_names, key.model_names) == (["read", "submit"], ["analyst", "helper"], ["tiny"])
    assert key.expires_at == datetime(2100, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--user", "nobody"], "no user"),
        (["--user", "gone"], "inactive"),
        (["--user", "robot", "--name", "x" * 101], "name: At most 100 characters"),
        (["--user", "robot", "--verbs", "rule"], "invalid choice: 'rule'"),
        (["--user", "robot", "--agents", "x" * 61], "agent_names: At most 60 characters"),
        (["--user", "robot", "--agents", ""], "agent_names: A name is empty"),
        (["--user", "robot", "--models", "\udcff"], "model_names: Null characters and lone surrogates"),
        (["--user", "robot", "--expires-at", "2001-01-31"], "expires_at: This moment has passed"),
        (["--user", "robot", "--expires-at", "soon"], "no moment"),
    ],
)
def test_it_makes_no_key_that_would_not_work(options, complaint):
    make_user(username="robot")
    make_user(username="gone", is_active=False)
    with pytest.raises(CommandError, match=complaint):
        make(*options)
    assert not ApiKey.objects.exists()
