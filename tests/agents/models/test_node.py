import pytest
from django.db import IntegrityError

from agents.models import Node
from agents.models.node import canonical_model_name
from tests.agents.engine.factories import make_node

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("TinyLlama", "tinyllama:latest"),
        (" llama3:8B ", "llama3:8b"),
        ("host:5000/team/model", "host:5000/team/model:latest"),
        ("host:5000/team/model:q4", "host:5000/team/model:q4"),
        ("builtin", "builtin"),
        ("", ""),
    ],
)
def test_a_model_has_one_spelling(name, canonical):
    assert canonical_model_name(name) == canonical
    assert canonical_model_name(canonical) == canonical


@pytest.mark.parametrize(
    "fields", [{"slots": 0}, {"url": ""}, {"kind": Node.Kind.BUILTIN}, {"kind": Node.Kind.BUILTIN, "url": "x"}]
)
def test_the_database_refuses_a_node_that_cannot_be(fields):
    with pytest.raises(IntegrityError):
        make_node(**fields)


def test_an_address_belongs_to_one_node():
    make_node(url="http://192.0.2.1:1")
    with pytest.raises(IntegrityError):
        make_node(url="http://192.0.2.1:1")
