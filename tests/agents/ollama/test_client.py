"""What the client does when things go wrong, and what it leaves behind."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from agents.ollama import errors
from agents.ollama.async_client import AsyncOllamaClient
from agents.ollama.client import OllamaClient
from agents.ollama.types import ChatRequest, Message, Timeouts
from core.net import async_http, places
from core.net.http import HttpPool
from core.net.interrupts import Interrupt
from tests.agents.ollama.callers import Caller, LoopClient
from tests.ollama_server import OllamaTestServer
from tests.pools import LoopPool, Pool

QUICK = Timeouts(connect=0.2, first_byte=0.2, gap=0.2, probe=0.2, control=0.2)


def asking(model: str, text: str = "hello") -> ChatRequest:
    return ChatRequest(model=model, messages=(Message(role="user", content=text),))


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        ("hang", errors.FirstByteTimeout),
        ("stall0", errors.FirstByteTimeout),
        ("stall3", errors.GapTimeout),
        ("reset", errors.ConnectionLost),
        ("cut0", errors.ConnectionLost),
        ("cut3", errors.CutStream),
        ("eof3", errors.UnfinishedStream),
        ("error3", errors.StreamError),
        ("error0", errors.ServerError),
        ("status400", errors.OllamaRejected),
        ("status404", errors.ModelNotFound),
        ("status429", errors.Saturated),
        ("status500", errors.ServerError),
        ("status502", errors.BadGateway),
        ("status503", errors.Saturated),
        ("status504", errors.BadGateway),
        ("html", errors.NotOllama),
    ],
)
def test_each_failure_has_its_class_and_frees_its_slot(
    server: OllamaTestServer,
    make_caller: Callable[..., Caller],
    callers_pool: Pool,
    knobs: str,
    expected: type[errors.OllamaError],
) -> None:
    caller = make_caller(server.url, timeouts=QUICK)
    with pytest.raises(errors.OllamaError) as caught:
        list(caller.chat(asking(f"double:t9-{knobs}")))
    assert type(caught.value) is expected
    assert caught.value.detail
    assert caught.value.output_began is isinstance(caught.value, errors.IncompleteAnswer)
    stats = server.wait_for(lambda stats: stats["in_flight"] == 0)
    assert not any(stats["loaded"].values())
    assert callers_pool.counters().in_use == 0


@pytest.mark.parametrize("tokens", range(6))
@pytest.mark.parametrize("fault", ["cut", "eof", "error", "stall"])
def test_an_answer_that_breaks_anywhere_never_passes_for_whole(
    server: OllamaTestServer, make_caller: Callable[..., Caller], fault: str, tokens: int
) -> None:
    caller = make_caller(server.url, timeouts=QUICK)
    with pytest.raises(errors.OllamaUnavailable):
        list(caller.chat(asking(f"double:t5-{fault}{tokens}")))


def test_nothing_listening_is_a_failure_to_connect(pool: HttpPool) -> None:
    with pytest.raises(errors.ConnectFailed, match="refused"):
        OllamaClient("127.0.0.1:1", pool=pool).version()


def test_probes_have_limits_of_their_own(pool: HttpPool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        client = OllamaClient(f"127.0.0.1:{mute.getsockname()[1]}", timeouts=Timeouts(probe=0.1), pool=pool)
        with pytest.raises(errors.FirstByteTimeout, match=r"0\.1 s"):
            client.version()


def test_a_whole_answer_counts_although_the_body_stays_open(server: OllamaTestServer, caller: Caller) -> None:
    chunks = list(caller.chat(asking("double:linger")))
    assert chunks[-1].done
    server.wait_for(lambda stats: stats["in_flight"] == 0)


def test_a_wrong_count_is_passed_on_as_reported(caller: Caller) -> None:
    assert list(caller.chat(asking("double:counts999")))[-1].output_tokens == 999


@pytest.mark.parametrize("model", ["double:hang", "double:stall2", "double:t9999-d20", "double:l30000"])
def test_an_interrupt_ends_a_chat_at_once(server: OllamaTestServer, client: OllamaClient, model: str) -> None:
    interrupt = Interrupt()
    with ThreadPoolExecutor() as threads:
        call = threads.submit(lambda: list(client.chat(asking(model), interrupt=interrupt)))
        server.wait_for(lambda stats: stats["in_flight"] == 1)
        began = time.monotonic()
        interrupt.shutdown()
        with pytest.raises(errors.Interrupted):
            call.result(timeout=10)
        assert time.monotonic() - began < 1
    server.wait_for(lambda stats: stats["in_flight"] == 0)


@pytest.mark.parametrize("model", ["double:hang", "double:stall2", "double:t9999-d20", "double:l30000"])
def test_cancelling_the_task_ends_a_chat_at_once(server: OllamaTestServer, model: str) -> None:
    pool = LoopPool()
    client = LoopClient(server.url, pool=pool).real

    async def read() -> list[str]:
        return [chunk.text async for chunk in client.chat(asking(model))]

    call = pool.loop.start(read())
    server.wait_for(lambda stats: stats["in_flight"] == 1)
    call.cancel()
    with pytest.raises(CancelledError):
        call.result(timeout=10)
    server.wait_for(lambda stats: stats["in_flight"] == 0)
    pool.close()


def test_the_loops_client_is_made_anywhere_and_takes_the_named_pool(server: OllamaTestServer) -> None:
    client = AsyncOllamaClient(server.url)

    async def ask() -> str:
        try:
            return "".join([chunk.text async for chunk in client.chat(asking("double"))])
        finally:
            async_http.close_pools()

    before = places.places(places.OLLAMA).counters().requests
    assert "hello" in asyncio.run(ask())
    assert places.places(places.OLLAMA).counters().requests == before + 1


def test_an_interrupt_is_no_failure_of_the_node() -> None:
    assert not errors.Interrupted.counts_for_breaker
    assert not errors.Interrupted.retryable


def test_threads_share_a_client(pool: HttpPool) -> None:
    with OllamaTestServer(parallel=16) as server:
        client = OllamaClient(server.url, pool=pool)
        ready = threading.Barrier(16)

        def ask(number: int) -> bool:
            ready.wait()
            text = "".join(chunk.text for chunk in client.chat(asking("double", f"question {number}")))
            return f"question {number} " in text

        with ThreadPoolExecutor(16) as threads:
            assert all(threads.map(ask, range(16)))
        assert server.stats()["prompts_finished"] == {f"question {number}": 1 for number in range(16)}


def test_chats_one_after_another_share_a_connection(server: OllamaTestServer, caller: Caller) -> None:
    for _ in range(5):
        list(caller.chat(asking("double")))
    assert len(server.app.connections) == 1


def test_codes_are_stable_and_unique() -> None:
    def kinds(kind: type[errors.OllamaError]) -> list[type[errors.OllamaError]]:
        return [kind] + [below for child in kind.__subclasses__() for below in kinds(child)]

    named = [kind for kind in kinds(errors.OllamaError) if "code" in vars(kind)]
    assert len({kind.code for kind in named}) == len(named)


def test_what_must_not_be_retried_says_so() -> None:
    final = (errors.OllamaRejected, errors.DeadlineExceeded, errors.Interrupted)
    assert not any(kind.retryable for kind in final)
    elsewhere = (errors.FirstByteTimeout, errors.GapTimeout, errors.ModelNotFound, errors.NotOllama)
    assert all(kind.retryable and kind.other_node_only for kind in elsewhere)
    assert errors.ServerError.max_retries == 1


def test_only_the_nodes_own_failures_count_for_its_breaker() -> None:
    innocent = (
        errors.OllamaRejected,
        errors.ModelNotFound,
        errors.Saturated,
        errors.PoolExhausted,
        errors.DeadlineExceeded,
        errors.Interrupted,
    )
    assert not any(kind.counts_for_breaker for kind in innocent)
    guilty = (errors.ConnectFailed, errors.FirstByteTimeout, errors.ServerError, errors.BadGateway)
    broken = (errors.StreamError, errors.UnfinishedStream, errors.CutStream, errors.GapTimeout)
    assert all(kind.counts_for_breaker for kind in guilty + broken)
