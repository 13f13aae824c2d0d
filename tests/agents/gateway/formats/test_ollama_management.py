"""Reading what manages models, and writing its progress."""

import json
from typing import Any

import pytest

from agents.gateway.formats import ollama_management
from agents.gateway.formats.ollama_management import Change
from agents.gateway.formats.reading import CallRefused
from agents.ollama import protocol
from agents.ollama.types import Progress


def test_names_have_their_present_key_or_the_older_one() -> None:
    assert ollama_management.parse_pull({"name": "a"}) == Change(model="a")
    assert ollama_management.parse_pull({"model": "a", "name": "b", "insecure": True}) == Change(
        model="a", insecure=True
    )
    assert ollama_management.parse_delete({"name": "hf.co/user/Model-GGUF:Q4_K_M"}) == "hf.co/user/Model-GGUF:Q4_K_M"
    assert ollama_management.parse_push({"model": "a", "stream": False}).streams is False


def test_what_a_model_is_made_of_is_passed_on() -> None:
    settings = {"from": "a", "system": "Be brief.", "parameters": {"num_ctx": 8192}, "something_new": [1]}
    change = ollama_management.parse_create({"model": "b", "name": "c", "stream": True, **settings})
    assert change == Change(model="b", settings=settings)


def test_models_get_no_names_that_mean_agents() -> None:
    for parse in (ollama_management.parse_pull, ollama_management.parse_create):
        with pytest.raises(CallRefused, match="invalid model name"):
            parse({"model": "Agent:helper", "from": "a"})
    with pytest.raises(CallRefused, match="destination"):
        ollama_management.parse_copy({"source": "a", "destination": "agent:helper"})
    assert ollama_management.parse_copy({"source": "agent:helper", "destination": "a"}) == ("agent:helper", "a")


@pytest.mark.parametrize("name", ["", "a b", "a\n", "a\x00", "\ud800", "x" * 201, 5, ["a"], {}])
def test_what_is_no_name_is_refused(name: Any) -> None:
    for parse in (ollama_management.parse_pull, ollama_management.parse_push, ollama_management.parse_delete):
        with pytest.raises(CallRefused):
            parse({"model": name})
    for body in ({"source": name, "destination": "a"}, {"source": "a", "destination": name}):
        with pytest.raises(CallRefused):
            ollama_management.parse_copy(body)


@pytest.mark.parametrize(
    "step",
    [
        Progress(status="pulling manifest"),
        Progress(status="pulling 2644915ede35", digest="sha256:2644915ede35", total_bytes=637_700_138),
        Progress(status="pulling 2644915ede35", digest="sha256:2644915ede35", total_bytes=9, completed_bytes=9),
        Progress(status="odd \u2028 line \u0085 ends"),
    ],
)
def test_progress_is_read_back_as_it_was(step: Progress) -> None:
    line = ollama_management.progress(step)
    assert len(line.decode().splitlines()) == 1
    assert protocol.parse_progress(json.loads(line)) == step
    assert 0 not in json.loads(line).values()
