"""The people: owner of what a test is about, colleague of the same team, stranger from another, operator."""

import pytest

from agents.models import Agent, Node
from tests.api import ApiClient
from tests.factories import make_agent, make_builtin_node, make_operator, make_team, make_user


@pytest.fixture
def owner(db: None) -> ApiClient:
    return ApiClient(make_user(username="owner"))


@pytest.fixture
def colleague(db: None) -> ApiClient:
    return ApiClient(make_user(username="colleague"))


@pytest.fixture
def stranger(db: None) -> ApiClient:
    return ApiClient(make_user(username="stranger", team=make_team()))


@pytest.fixture
def operator(db: None) -> ApiClient:
    return ApiClient(make_operator(username="operator"))


@pytest.fixture
def builtin(db: None) -> Node:
    return make_builtin_node()


@pytest.fixture
def helper(builtin: Node) -> Agent:
    """A chat agent of the owner's team that the built-in model can answer for."""
    return make_agent(make_operator(username="maker"), name="helper")
