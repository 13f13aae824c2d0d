from collections.abc import Iterator
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from agents import examinations
from core.ops.doctor import Verdict
from tests.factories import make_builtin_node, make_node
from tests.ollama_server import OllamaTestProcess, OllamaTestServer
from tests.services.server import free_port

pytestmark = pytest.mark.django_db


@pytest.fixture
def ollama() -> Iterator[OllamaTestServer]:
    with OllamaTestServer() as server:
        yield server


def found():
    return [(diagnosis.verdict, diagnosis.text) for diagnosis in examinations.the_nodes()]


def test_without_a_node_it_is_told_how_to_register_one():
    make_builtin_node()
    (diagnosis,) = examinations.the_nodes()
    assert diagnosis.verdict == Verdict.WARNING
    assert "register_node" in diagnosis.mend


def test_a_node_that_answers_is_well(ollama):
    make_node(name="gpu-1", url=ollama.url)
    assert found() == [
        (Verdict.OK, "gpu-1 answers."),
        (Verdict.OK, "The clock of gpu-1 agrees with that of this machine."),
    ]


def test_a_node_whose_clock_is_wrong_is_an_error():
    with OllamaTestProcess() as elsewhere, time_machine.travel(timezone.now() + timedelta(hours=2)):
        make_node(name="gpu-1", url=elsewhere.url)
        answers, clock = found()
    assert answers == (Verdict.OK, "gpu-1 answers.")
    assert clock[0] == Verdict.ERROR
    assert "The clock of gpu-1 is 2 h 00 min behind" in clock[1] or "1 h 59 min" in clock[1]


def test_a_node_that_does_not_answer_is_an_error_with_advice():
    make_node(name="gpu-1", url=f"http://127.0.0.1:{free_port()}")
    (diagnosis,) = examinations.the_nodes()
    assert (diagnosis.verdict, "gpu-1 does not answer" in diagnosis.text) == (Verdict.ERROR, True)
    assert diagnosis.mend


def test_a_draining_node_is_doubtful(ollama):
    make_node(name="gpu-1", url=ollama.url, is_draining=True)
    assert found()[-1] == (Verdict.WARNING, "gpu-1 starts nothing new, because somebody drains it.")
