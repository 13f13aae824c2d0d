"""What speaks against a node, over real HTTP with a server that misbehaves on demand."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.db import connection
from django.utils import timezone

from agents.engine import discovery, execution, node_health, operations
from agents.engine.caretaker import Caretaker
from agents.engine.errors import ModelUnreachable
from agents.engine.submit import cancel
from agents.engine.writer import apply
from agents.models import AgentTask, Node
from agents.ollama import errors
from agents.ollama.client import OllamaClient
from agents.ollama.types import EmbedRequest, GenerateRequest, LoadedModel
from core.models import CircuitBreaker
from core.net import breakers
from tests.agents.engine.factories import MODEL, make_agent, make_node, make_user, open_breaker, submit_task
from tests.ollama_server.embedded import OllamaTestServer
from tests.services.server import free_port

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]

ROOT = Path(__file__).resolve().parents[3]
State = CircuitBreaker.State
GENERATE, CHAT = "/api/generate", "/api/chat"


@pytest.fixture
def server() -> Iterator[OllamaTestServer]:
    with OllamaTestServer(models=[MODEL], parallel=4) as server:
        yield server


@pytest.fixture(autouse=True)
def quick(settings, monkeypatch) -> None:
    settings.BREAKER_FAILURES = 3
    settings.BREAKER_COOL_DOWN_SECONDS = settings.BREAKER_MAX_COOL_DOWN_SECONDS = 0.01
    settings.MAX_ATTEMPTS = 1
    monkeypatch.setattr(node_health, "TOKEN_SECONDS", 0.5)


@pytest.fixture
def node(server: OllamaTestServer) -> Node:
    return make_node(MODEL, url=server.url, slots=4, first_byte_timeout_seconds=1.0, gap_timeout_seconds=1.0)


def breaker(node: Node) -> CircuitBreaker:
    return CircuitBreaker.objects.get(node=node)


def ask(message: str = "hello") -> AgentTask:
    """Have a task submitted and run to the end of its only try."""
    task = submit_task(make_agent(), message)
    execution.run(task.pk)
    task.refresh_from_db()
    return task


def load(server: OllamaTestServer) -> None:
    list(OllamaClient(server.url).generate(GenerateRequest(model=MODEL, prompt="wake up")))


def requests(server: OllamaTestServer, path: str) -> int:
    return server.stats()["requests_by_path"].get(path, 0)


def look(node: Node) -> None:
    """Send the probe that is due now, and wait for its end."""
    before = breaker(node).probes
    for thread in probe_threads(discovery.probe_due):
        thread.join(20)
    assert breaker(node).probes == before + 1


def probe_threads(start) -> list[threading.Thread]:
    before = set(threading.enumerate())
    start()
    return [thread for thread in threading.enumerate() if thread not in before and thread.name == "engine-probe"]


# What is counted ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    ["[[status500]]", "[[status502]]", "[[status504]]", "[[error3]]", "[[t9-cut3]]", "[[t9-eof3]]", "[[reset]]"],
)
def test_failures_of_the_node_open_its_breaker(node, message):
    codes = {ask(message).error_code for _ in range(3)}
    found = breaker(node)
    assert (found.state, found.failures) == (State.OPEN, 3)
    assert found.why.startswith(codes.pop())
    assert Node.objects.get(pk=node.pk).status == Node.Status.UP  # its server can be reached


@pytest.mark.parametrize("message", ["[[status400]]", "[[status401]]", "[[status404]]", "[[status499]]"])
def test_refusals_say_nothing_against_it(node, message):
    for _ in range(4):
        ask(message)
        node.places.update(is_available=True)  # what a 404 takes away
    assert (breaker(node).state, breaker(node).failures) == (State.CLOSED, 0)


def test_an_answer_in_between_begins_a_new_count(node):
    for message in ("[[status500]]", "[[status500]]", "hello", "[[status500]]", "[[status500]]"):
        ask(message)
    assert (breaker(node).state, breaker(node).failures) == (State.CLOSED, 2)


def test_a_call_that_we_end_ourselves_says_nothing_against_it(node, server, started_writer, wait_until):
    task = submit_task(make_agent(), "[[t100-d50]]")
    thread = threading.Thread(target=run_and_close, args=(task,))
    thread.start()
    wait_until(lambda: AgentTask.objects.get(pk=task.pk).first_output_at)
    assert cancel(task.pk)
    thread.join(20)
    assert (breaker(node).state, breaker(node).failures) == (State.CLOSED, 0)


def run_and_close(task: AgentTask) -> None:
    try:
        execution.run(task.pk)
    finally:
        connection.close()


def test_every_error_of_a_node_is_judged():
    """The classes say what counts; nobody adds one without deciding."""
    counted = {
        "bad-gateway", "connect-failed", "connection-lost", "cut-stream", "first-byte-timeout", "gap-timeout",
        "not-ollama", "server-error", "stream-error", "unfinished-stream",
    }  # fmt: skip
    kinds = [errors.OllamaError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    leaves = {kind.code for kind in kinds if not kind.__subclasses__() and kind.counts_for_breaker}
    assert leaves == counted


# A full queue -------------------------------------------------------------------------------------------------------


def test_a_storm_of_503_keeps_the_breaker_closed_and_sends_tasks_elsewhere(node, server):
    server.control(faults=[{"knobs": "status503", "path": CHAT}])
    for _ in range(5):
        assert ask().error_code == "saturated"
    assert (breaker(node).state, breaker(node).failures) == (State.CLOSED, 0)
    with OllamaTestServer(models=[MODEL]) as other_server:
        other = make_node(MODEL, url=other_server.url, slots=1)
        node.places.update(is_loaded=True)  # which would make it the first choice
        assert [ask().node_id for _ in range(3)] == [other.pk] * 3
        Node.objects.filter(pk=node.pk).update(saturated_until=timezone.now() - timedelta(seconds=1))
        server.control(faults=[])
        assert ask().node_id == node.pk


def test_a_storm_of_503_is_written_down_now_and_then(node, django_assert_max_num_queries):
    place = node.places.select_related("node").get()
    node_health.failed(place, errors.Saturated("full", status=503))
    until = Node.objects.get(pk=node.pk).saturated_until
    for _ in range(10):
        node_health.failed(place, errors.Saturated("full", status=503))
    assert Node.objects.get(pk=node.pk).saturated_until == until


# A node that is gone ------------------------------------------------------------------------------------------------


def test_a_node_that_is_gone_is_found_out_at_once_and_used_again_when_it_is_back(wait_until):
    port = free_port()
    node = make_node(MODEL, url=f"http://127.0.0.1:{port}")
    ask()
    assert breaker(node).state == State.CLOSED  # one failure may be an accident
    look(node)
    assert (breaker(node).state, Node.objects.get(pk=node.pk).status) == (State.OPEN, Node.Status.DOWN)
    with pytest.raises(ModelUnreachable) as refusal:
        submit_task(make_agent())
    assert (refusal.value.status, refusal.value.retry_after_seconds) == (503, 5)
    look_when_due(node, wait_until)
    assert (breaker(node).state, breaker(node).failed_probes) == (State.OPEN, 1)

    with OllamaTestServer(models=[MODEL], port=port):
        look_when_due(node, wait_until)
        assert (breaker(node).state, Node.objects.get(pk=node.pk).status) == (State.CLOSED, Node.Status.UP)
        assert ask().status == "succeeded"


def look_when_due(node: Node, wait_until) -> None:
    wait_until(lambda: breakers.due(breakers.Kind.NODE) == [node.breaker_id])
    look(node)


def test_tasks_that_wait_for_a_node_start_as_soon_as_its_probe_succeeds(node, wait_until):
    busy = [submit_task(make_agent()) for _ in range(4)]
    waiting = submit_task(make_agent())
    open_breaker(node)
    for task in busy:
        cancel(task.pk)
    assert AgentTask.objects.get(pk=waiting.pk).status == "queued"
    look_when_due(node, wait_until)
    assert AgentTask.objects.get(pk=waiting.pk).status == "running"


def test_an_agent_that_may_fall_back_is_answered_by_the_built_in_model_meanwhile(node):
    discovery.ensure_builtin()
    open_breaker(node)
    assert submit_task(make_agent(allows_builtin_fallback=True)).model == "builtin"


def test_where_the_built_in_model_is_held_out_of_use_too_nothing_is_promised(node):
    builtin = discovery.ensure_builtin()
    for shut in (node, builtin):
        open_breaker(shut)
    for version in ({"allows_builtin_fallback": True}, {"model": ""}):
        agent = make_agent(**version)
        with pytest.raises(ModelUnreachable):
            submit_task(agent)


def test_the_caretaker_sends_probes_and_ends_holds(node, wait_until):
    held = make_node()
    breakers.hold(held.breaker_id, breakers.Forced.OPEN, by=make_user(), reason="new disks", minutes=1)
    CircuitBreaker.objects.filter(node=held).update(forced_until=timezone.now())
    open_breaker(node)
    wait_until(lambda: breakers.due(breakers.Kind.NODE))
    for thread in probe_threads(Caretaker()._look):
        thread.join(20)
    assert (breaker(node).state, breaker(held).is_held) == (State.CLOSED, False)


def test_a_look_by_hand_does_not_wait_for_the_cool_down(node, settings):
    settings.BREAKER_COOL_DOWN_SECONDS = settings.BREAKER_MAX_COOL_DOWN_SECONDS = 3600
    open_breaker(node)
    assert discovery.refresh_all() == {node.name: True}
    assert breaker(node).state == State.OPEN  # the job that reads models is nobody's hand
    assert discovery.refresh(node)
    assert breaker(node).state == State.CLOSED


def test_the_built_in_model_is_well_again_after_its_minute(fake_clock):
    builtin = discovery.ensure_builtin()
    open_breaker(builtin)
    fake_clock.advance(breakers.TRIPPED_SECONDS)
    look(builtin)
    assert breaker(builtin).state == State.CLOSED


# A node that hangs --------------------------------------------------------------------------------------------------


def hang(server: OllamaTestServer) -> None:
    server.control(faults=[{"knobs": "hang", "path": path} for path in (GENERATE, CHAT)])


def test_a_node_that_answers_looks_and_writes_nothing_is_found_out(node, server, wait_until):
    load(server)
    hang(server)
    assert ask().error_code == "first-byte-timeout"
    assert (breaker(node).state, breaker(node).failures) == (State.CLOSED, 1)
    look(node)
    found = breaker(node)
    assert (found.state, Node.objects.get(pk=node.pk).status) == (State.OPEN, Node.Status.UP)
    assert "Its server answers, and its models do not: first-byte-timeout" in found.why
    look_when_due(node, wait_until)
    assert breaker(node).state == State.OPEN

    server.control(faults=[])
    look_when_due(node, wait_until)
    assert breaker(node).state == State.CLOSED
    assert ask().status == "succeeded"


def test_a_stream_that_falls_silent_is_followed_by_a_look_too(node, server, monkeypatch):
    load(server)
    assert ask("[[t9-stall3]]").error_code == "gap-timeout"
    monkeypatch.setattr(node_health, "_told_at", 0.0)  # the last telling was before the stream began
    node_health.tell_heard()
    assert breakers.due(breakers.Kind.NODE) == [node.breaker_id]


def test_silence_is_followed_by_looks_minutes_apart(node, server, fake_clock, settings):
    settings.BREAKER_FAILURES = 100
    load(server)
    server.control(faults=[{"knobs": "hang", "path": CHAT}])
    place = node.places.select_related("node").get()
    for seconds in (0, 100, 79, 1):
        fake_clock.advance(seconds)
        node_health.failed(place, errors.FirstByteTimeout("nothing came"))
        is_due = breakers.due(breakers.Kind.NODE) == [node.breaker_id]
        assert is_due == (seconds in {0, 1})
        if is_due:
            look(node)
    assert breaker(node).state == State.CLOSED
    assert requests(server, GENERATE) == 3  # the one that loaded it, and two looks


def test_a_request_that_stood_in_the_queue_of_a_busy_node_is_not_held_against_it(
    started_writer, wait_until, monkeypatch
):
    """One slot: a long answer keeps another request, and the probe, waiting for longer than they may."""
    # Another process gets the long answer, as far as this one knows.
    monkeypatch.setattr(node_health, "ear_for", lambda _: node_health.Ear())
    with OllamaTestServer(models=[MODEL], parallel=1) as server:
        node = make_node(MODEL, url=server.url, slots=2, first_byte_timeout_seconds=0.5)
        long = submit_task(make_agent(), "[[t200-d50]]")
        thread = threading.Thread(target=run_and_close, args=(long,))
        thread.start()
        wait_until(lambda: AgentTask.objects.get(pk=long.pk).first_output_at)
        assert ask("short").error_code == "first-byte-timeout"
        assert (breaker(node).state, breaker(node).failures) == (State.CLOSED, 0)
        look(node)
        assert breaker(node).state == State.CLOSED
        cancel(long.pk)
        thread.join(20)


def test_whoever_hears_from_a_node_clears_it_though_nothing_is_written_down(node, server):
    """Another process waits for a whole answer, which leaves no trace in the rows until it is there."""
    load(server)
    hang(server)
    breakers.suspect(node.breaker_id)
    probe = breakers.take_probe(node.breaker_id)
    node_health.ear_for(node).heard()
    node_health.tell_heard()
    node_health.generated(node, probe, errors.FirstByteTimeout("nothing came"))
    assert breaker(node).state == State.CLOSED


def test_an_answer_on_the_event_loop_begins_a_new_count_with_the_next_telling(node):
    ask("[[status500]]")
    node_health.note_answer(node)
    assert breaker(node).failures == 1
    node_health.tell_heard()
    assert (breaker(node).state, breaker(node).failures) == (State.CLOSED, 0)


def test_what_was_heard_before_the_last_telling_clears_nothing_later(node):
    node_health.ear_for(node).heard()
    node_health.tell_heard()
    breakers.suspect(node.breaker_id)
    node_health.tell_heard()
    assert breakers.due(breakers.Kind.NODE) == [node.breaker_id]


def test_a_run_under_way_clears_the_node_that_it_hears_from(node, server, started_writer, wait_until):
    task = submit_task(make_agent(), "[[t2000-d50]]")
    thread = threading.Thread(target=run_and_close, args=(task,))
    thread.start()
    wait_until(lambda: AgentTask.objects.get(pk=task.pk).first_output_at)
    breakers.suspect(node.breaker_id)
    wait_until(lambda: breaker(node).probe_at is None)
    cancel(task.pk)
    thread.join(20)


def test_an_answer_that_comes_piece_by_piece_is_heard(node, server, started_writer):
    before = time.monotonic()
    ask("[[t9-d10]]")
    assert node_health.ear_for(node).heard_at > before


# Looks --------------------------------------------------------------------------------------------------------------


def test_a_probe_loads_nothing(node, server, wait_until):
    open_breaker(node)
    look_when_due(node, wait_until)
    assert breaker(node).state == State.CLOSED
    assert requests(server, GENERATE) == 0
    assert OllamaClient(server.url).ps() == []


def test_a_probe_takes_a_model_as_it_was_loaded_and_leaves_its_time_in_memory(node, server, wait_until):
    client = OllamaClient(server.url)
    request = GenerateRequest(model=MODEL, prompt="wake up", options={"num_ctx": 1024}, keep_alive=3600)
    list(client.generate(request))
    (before,) = client.ps()
    open_breaker(node)
    look_when_due(node, wait_until)
    assert breaker(node).state == State.CLOSED
    assert requests(server, GENERATE) == 2
    (after,) = client.ps()
    assert server.app._scheduler.loads == 1
    assert after.context_length == 1024
    shift = discovery._moment(after.expires_at) - discovery._moment(before.expires_at)
    assert abs(shift) < timedelta(seconds=60)  # without that it would be 55 minutes less


def test_a_model_that_stays_for_ever_does_so_after_a_probe(node, server, wait_until):
    list(OllamaClient(server.url).generate(GenerateRequest(model=MODEL, prompt="wake up", keep_alive=-1)))
    open_breaker(node)
    look_when_due(node, wait_until)
    (model,) = OllamaClient(server.url).ps()
    assert discovery._moment(model.expires_at) > timezone.now() + timedelta(days=365)


def test_a_model_that_only_embeds_is_not_asked_for_a_word(wait_until):
    with OllamaTestServer(models=["embedder"]) as server:
        node = make_node("embedder:latest", url=server.url)
        OllamaClient(server.url).embed(EmbedRequest(model="embedder:latest", inputs=("text",)))
        open_breaker(node)
        look_when_due(node, wait_until)
        assert breaker(node).state == State.CLOSED
        assert requests(server, GENERATE) == 0


def test_a_server_too_old_to_tell_its_windows_is_not_asked_for_a_word(node, server, monkeypatch, wait_until):
    """With another window than the one it was loaded with, the model would be loaded anew."""
    load(server)
    monkeypatch.setattr(OllamaClient, "ps", lambda _: [LoadedModel(name=MODEL)])
    open_breaker(node)
    look_when_due(node, wait_until)
    assert breaker(node).state == State.CLOSED
    assert requests(server, GENERATE) == 1


def test_the_model_that_tasks_wait_for_is_asked(wait_until):
    with OllamaTestServer(models=["first:latest", "second:latest"]) as server:
        node = make_node("first:latest", "second:latest", url=server.url)
        for model in ("first:latest", "second:latest"):
            list(OllamaClient(server.url).generate(GenerateRequest(model=model, prompt="wake up")))
        waiting = submit_task(make_agent(model="second:latest"))
        apply(operations.take, [operations.Take(waiting.pk, "host/1/1")])
        open_breaker(node)
        server.control(faults=[{"knobs": "hang", "path": GENERATE, "model": "second"}])
        look_when_due(node, wait_until)
        assert breaker(node).state == State.OPEN


def test_a_full_queue_during_a_probe_is_a_sign_of_life(node, server, wait_until):
    load(server)
    server.control(faults=[{"knobs": "status503", "path": GENERATE}])
    open_breaker(node)
    look_when_due(node, wait_until)
    assert breaker(node).state == State.CLOSED


def test_a_look_that_is_not_answered_in_time_is_repeated_before_it_counts(node, server, monkeypatch):
    """Three seconds may be too few for a machine that swaps."""
    monkeypatch.setattr(OllamaClient, "version", lambda _: slow())
    assert not discovery.refresh(node)
    assert (breaker(node).state, breaker(node).failures) == (State.CLOSED, 1)
    look(node)
    assert breaker(node).state == State.OPEN


def test_a_look_for_which_we_have_no_connection_says_nothing(node, monkeypatch):
    monkeypatch.setattr(OllamaClient, "version", lambda _: none_free())
    assert not discovery.refresh(node)
    assert (breaker(node).state, breaker(node).failures) == (State.CLOSED, 0)
    assert Node.objects.get(pk=node.pk).status == Node.Status.UP
    open_breaker(node)
    assert not discovery.refresh(node)
    assert (breaker(node).failed_probes, breaker(node).probe_until) == (0, None)


def none_free() -> str:
    raise errors.PoolExhausted("all connections are in use")


def test_a_process_sends_only_so_many_probes_at_a_time(server, monkeypatch, settings):
    settings.BREAKER_COOL_DOWN_SECONDS = settings.BREAKER_MAX_COOL_DOWN_SECONDS = 3600
    monkeypatch.setattr(discovery, "_free", threading.BoundedSemaphore(2))
    monkeypatch.setattr(OllamaClient, "version", lambda _: "a version" if go.wait(20) else "")
    go = threading.Event()
    nodes = [make_node(MODEL, url=f"{server.url}/{number}") for number in range(3)]  # which is no Ollama
    for node in nodes:
        breakers.suspect(node.breaker_id)
    threads = probe_threads(discovery.probe_due)
    assert len(threads) == 2
    assert probe_threads(discovery.probe_due) == []
    go.set()
    for thread in threads:
        thread.join(20)
    (last,) = probe_threads(discovery.probe_due)
    last.join(20)
    assert sorted(breaker(node).probes for node in nodes) == [1, 1, 1]


def slow() -> str:
    raise errors.FirstByteTimeout("nothing came within 3 s")


def test_a_look_that_breaks_gives_its_right_back_in_time(node, monkeypatch, caplog):
    open_breaker(node)
    CircuitBreaker.objects.update(probe_at=timezone.now())
    monkeypatch.setattr(OllamaClient, "version", lambda _: 1 / 0)
    look(node)
    assert "The probe of" in caplog.text
    assert (breaker(node).state, breaker(node).probe_until is None) == (State.HALF_OPEN, False)


PROBER = """
import sys, threading
import django
django.setup()
from agents.engine import discovery
from agents.models import Node
Node.objects.count()  # connected
print("ready", flush=True)
sys.stdin.readline()
for _ in range(10):
    discovery.probe_due()
for thread in threading.enumerate():
    if thread.name == "engine-probe":
        thread.join()
print("done", flush=True)
sys.stdin.readline()
"""


def test_of_eight_processes_that_want_to_probe_a_node_one_does(node, server, settings):
    load(server)
    open_breaker(node)
    CircuitBreaker.objects.update(probe_at=timezone.now())
    environment = {
        **os.environ,
        "DATABASE_URL": database_url(),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "SUTAZAI_BREAKER_COOL_DOWN_SECONDS": "3600",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROBER],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    try:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 8
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.stdout.readline() for process in processes] == ["done\n"] * 8
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert (requests(server, "/api/version"), requests(server, GENERATE)) == (1, 2)
    assert (breaker(node).state, breaker(node).probes) == (State.CLOSED, 1)


def database_url() -> str:
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()
