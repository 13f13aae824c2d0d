"""Lists of models, in both worlds. Numbers are those of the protocol's conformance cases."""

import json
from typing import Any

import pytest

from agents.gateway.formats import base, ollama_models, openai_models
from agents.gateway.formats.reading import CallRefused
from agents.ollama import protocol
from agents.ollama.types import Details, InstalledModel, LoadedModel, ModelDetails

DETAILS = Details(family="llama", families=("llama",), format="gguf", parameter_size="1B", quantization_level="Q4_0")
TINY = InstalledModel(
    name="tinyllama:latest",
    digest="2644915ede35",
    size_bytes=637_700_138,
    modified_at="2026-08-01T12:00:00.123456789+02:00",
    details=DETAILS,
    capabilities=("completion",),
)
AGENT = InstalledModel(name="agent:helper")


def test_case_01_02_the_root_and_the_version() -> None:
    assert base.RUNNING == b"Ollama is running"
    assert json.loads(ollama_models.version("0.33.0")) == {"version": "0.33.0"}


def test_case_03_04_unknown_routes_are_told_in_plain_text() -> None:
    assert (base.NO_SUCH_PAGE, base.NO_SUCH_METHOD) == (b"404 page not found", b"405 method not allowed")
    assert base.PLAIN == "text/plain"


def test_tags_list_models_and_agents_as_our_own_client_reads_them() -> None:
    value = json.loads(ollama_models.tags([TINY, AGENT]))
    assert protocol.parse_tags(value) == [TINY, AGENT]
    assert value["models"][0]["model"] == "tinyllama:latest"
    assert not {"modified_at", "capabilities"} & set(value["models"][1])


def test_ps_lists_what_is_loaded() -> None:
    loaded = LoadedModel(
        name="tinyllama:latest",
        digest="2644915ede35",
        size_bytes=9,
        vram_bytes=8,
        expires_at="2026-08-01T12:05:00Z",
        context_length=4096,
        details=DETAILS,
    )
    value = json.loads(ollama_models.ps([loaded, LoadedModel(name="old")]))
    assert protocol.parse_ps(value) == [loaded, LoadedModel(name="old")]
    assert json.loads(ollama_models.ps([])) == {"models": []}


def test_show_tells_all_and_always_the_information() -> None:
    model = ModelDetails(
        modelfile="FROM x",
        parameters="stop x",
        template="{{ .Prompt }}",
        system="Be brief.",
        license="MIT",
        modified_at="2026-08-01T12:00:00Z",
        details=DETAILS,
        capabilities=("completion", "tools"),
        model_info={"general.architecture": "llama", "llama.context_length": 2048},
    )
    assert protocol.parse_show(json.loads(ollama_models.show(model))) == model
    assert json.loads(ollama_models.show(ModelDetails()))["model_info"] == {}


@pytest.mark.parametrize("body", [{"model": "x"}, {"name": "x", "verbose": True}, {"model": "x", "name": "y"}])
def test_show_takes_a_name_in_either_field(body: dict[str, Any]) -> None:
    assert ollama_models.parse_show(body) == "x"


def test_show_needs_a_name() -> None:
    with pytest.raises(CallRefused) as caught:
        ollama_models.parse_show({"model": ""})
    assert (caught.value.status, caught.value.detail) == (400, "model is required")


def test_case_30_without_models_the_list_is_empty() -> None:
    assert json.loads(openai_models.models([])) == {"object": "list", "data": []}


def test_models_and_agents_are_models() -> None:
    value = json.loads(openai_models.models([TINY, AGENT]))
    assert value["data"] == [
        {"id": "tinyllama:latest", "object": "model", "created": 1785578400, "owned_by": "library"},
        {"id": "agent:helper", "object": "model", "created": 0, "owned_by": "sutazai"},
    ]
    assert json.loads(openai_models.model(TINY)) == value["data"][0]


@pytest.mark.parametrize(
    ("name", "owner"), [("tiny:1b", "library"), ("ana/tiny:1b", "ana"), ("reg.example:5000/ana/tiny", "ana")]
)
def test_the_owner_is_the_namespace(name: str, owner: str) -> None:
    assert json.loads(openai_models.model(InstalledModel(name=name)))["owned_by"] == owner
