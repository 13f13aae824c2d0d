import pytest
from django.core.exceptions import ValidationError

from agents.models.agent import validate_options
from tests.agents.engine.factories import make_agent, make_version

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


def test_versions_are_numbered_and_the_new_one_is_not_live_by_itself():
    agent = make_agent()
    version = make_version(agent, system_prompt="Be brief.")
    assert (version.number, agent.live_version.number) == (2, 1)
    agent.make_live(version)
    agent.refresh_from_db()
    assert agent.live_version == version


def test_a_version_never_changes():
    version = make_version(make_agent())
    version.system_prompt = "Something else."
    with pytest.raises(ValidationError):
        version.save()
    version.refresh_from_db()
    assert version.system_prompt == ""


def test_another_agent_s_version_cannot_be_made_live():
    with pytest.raises(ValidationError):
        make_agent().make_live(make_version(make_agent()))


def test_a_version_s_model_is_spelt_as_nodes_spell_it():
    assert make_version(make_agent(), model=" TinyLlama ").model == "tinyllama:latest"


@pytest.mark.parametrize("content", [{"deadline_seconds": 0}, {"options": {"num_ctx": -1}}, {"truncation": "maybe"}])
def test_a_version_out_of_bounds_is_refused(content):
    agent = make_agent()
    with pytest.raises(ValidationError):
        make_version(agent, **content)
    assert agent.versions.count() == 1


@pytest.mark.parametrize("options", [[], {"a": {}}, {"a": None}, {"num_ctx": True}, {"stop": [1]}, {"num_ctx": 1.5}])
def test_options_are_names_with_plain_values(options):
    with pytest.raises(ValidationError):
        validate_options(options)


def test_options_may_be_texts_numbers_truths_and_lists_of_texts():
    validate_options({"stop": ["a", "b"], "temperature": 0.1, "num_ctx": 4096, "penalize_newline": True})
