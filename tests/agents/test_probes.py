import pytest

from agents.models import Node
from agents.probes import models
from core.ops.probes import UP, State
from tests.factories import make_builtin_node, make_node

pytestmark = pytest.mark.django_db


def test_without_a_model_server_answers_are_degraded():
    make_builtin_node()
    assert models().state == State.DEGRADED


def test_all_model_servers_up_is_up():
    make_builtin_node()
    make_node()
    assert models() == UP


def test_some_model_servers_down_is_degraded():
    make_node()
    make_node(is_down=True)
    assert models().state == State.DEGRADED
    assert "1 of 2" in models().detail


def test_all_model_servers_down_is_down_whatever_the_built_in_model_says():
    make_builtin_node()
    make_node(is_down=True)
    make_node(status=Node.Status.UNKNOWN)
    assert models().state == State.DOWN
