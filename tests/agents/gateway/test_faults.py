"""What clients of the gateway meet when something breaks, in both lanes; `bench.chaos` does the same under load.

Answers that something happens to are held meanwhile, so that it meets them however slow the machine is.
"""

import itertools
import os
import signal
import uuid

import pytest
import requests

from bench import tasks
from bench.chaos.gateway.calls import Outcome
from bench.chaos.gateway.wire import CHAT, GENERATE, NATIVE_CHAT, RESPONSE, WIRES, End
from tests.agents.gateway.conftest import SLOTS
from tests.program import PATIENCE_SECONDS

HELD = "t60-hold20"
NOT_BEGUN = "t8-hold0"
# A response goes on: its client may come back for it.
CANCELLED_WITH_CLIENTS = tuple(wire for wire in WIRES if wire is not RESPONSE)
_numbers = itertools.count()


def asking(knobs):
    """A question that nobody has asked before."""
    return f"[[{knobs}]] question <{next(_numbers)}>"


def in_flight(server):
    return server.stats()["in_flight"]


def fail(server, knobs):
    """Break all that models of a server are asked; the server itself answers."""
    server.control(faults=[{"knobs": knobs, "path": path} for path in ("/api/chat", "/api/generate")])


def answer_of(server, prompt):
    return server.stats()["prompts_started"].get(prompt, 0)


def outcomes(calls):
    return {call.outcome for call in calls}


# Nodes --------------------------------------------------------------------------------------------------------------


def test_calls_that_had_not_begun_move_when_their_node_is_killed(pair, clients, wait_until):
    calls = [clients.call(wire, asking(NOT_BEGUN), streams=streams) for wire in WIRES[:4] for streams in (False, True)]
    wait_until(lambda: all(in_flight(server) == SLOTS for server in pair.servers))
    pair.one.kill()
    pair.release()
    clients.wait()
    assert outcomes(calls) == {Outcome.ANSWERED}
    assert {call.headers["x-sutazai-node"] for call in calls} == {"two"}


def test_streams_that_had_begun_end_in_an_error_when_their_node_is_killed(pair, clients, wait_until):
    calls = [clients.call(wire, asking(HELD), streams=True) for wire in WIRES]
    wait_until(lambda: all(call.heard.text for call in calls))
    pair.one.kill()
    pair.release()
    clients.wait()
    assert {call.headers["x-sutazai-node"] for call in calls} == {"one", "two"}
    for call in calls:
        ending = End.ERROR if call.headers["x-sutazai-node"] == "one" else End.DONE
        assert (call.heard.end, call.cut) == (ending, ""), call


def test_without_a_node_callers_are_told_so_and_the_console_works(pair, clients, wait_until):
    under_way = [
        clients.call(wire, asking(NOT_BEGUN), streams=streams) for wire, streams in ((CHAT, False), (GENERATE, True))
    ]
    wait_until(lambda: sum(map(in_flight, pair.servers)) == len(under_way))
    for server in pair.all_servers:
        server.kill()
    pair.use(*pair.all_servers)  # those that only rest would be waited for
    clients.wait()
    for call in under_way:
        assert call.outcome is Outcome.REFUSED, call
        assert call.status in {502, 503}
        assert int(call.headers["retry-after"]) > 0
    later = [clients.call(wire, asking("t8"), streams=streams) for wire in WIRES for streams in (False, True)]
    clients.wait()
    assert {(call.outcome, call.status, "retry-after" in call.headers) for call in later} == {
        (Outcome.REFUSED, 503, True)
    }
    assert requests.get(f"{pair.program.url}/login", timeout=PATIENCE_SECONDS).ok
    pair.two.start()

    def is_answered() -> bool:
        again = clients.call(CHAT, asking("t8"))
        clients.wait()
        return again.outcome is Outcome.ANSWERED

    wait_until(is_answered)


def test_calls_that_a_node_took_and_never_answers_go_to_the_other(pair, clients):
    fail(pair.silent[0], "hang")
    pair.use(pair.silent[0], pair.two)
    calls = [clients.call(wire, asking("t8"), streams=streams) for wire in WIRES for streams in (False, True)]
    clients.wait()
    assert outcomes(calls) == {Outcome.ANSWERED}


def test_a_call_that_no_node_answers_holds_nobody_up(pair, clients, wait_until):
    hanging = [
        clients.call(wire, asking("hang"), streams=streams) for wire, streams in ((CHAT, False), (NATIVE_CHAT, True))
    ]
    wait_until(lambda: sum(map(in_flight, pair.servers)) == len(hanging))
    others = [clients.call(CHAT, asking("t8")) for _ in range(SLOTS)]
    wait_until(lambda: all(call.ended_at for call in others))
    assert outcomes(others) == {Outcome.ANSWERED}
    assert outcomes(hanging) == {Outcome.OPEN}


def test_a_call_that_no_node_answers_ends_by_their_limits(pair, clients):
    pair.use(*pair.silent)
    hanging = [
        clients.call(wire, asking("hang"), streams=streams) for wire, streams in ((CHAT, False), (NATIVE_CHAT, True))
    ]
    clients.wait()
    assert {(call.outcome, call.status) for call in hanging} == {(Outcome.REFUSED, 504)}
    assert {pair.task(call)["attempts"] for call in hanging} == {1}


def test_whole_answers_that_fall_silent_are_made_again(pair, clients):
    fail(pair.silent[0], "stall3")
    pair.use(pair.silent[0], pair.two)
    whole = [clients.call(wire, asking("t16")) for wire in WIRES[:4]]
    clients.wait()
    assert outcomes(whole) == {Outcome.ANSWERED}


@pytest.mark.parametrize("wires", [WIRES[:2], WIRES[2:4]])  # so few that no breaker opens meanwhile
def test_streams_that_fall_silent_end_in_an_error(pair, clients, wires):
    for server in pair.silent:
        fail(server, "stall3")
    pair.use(*pair.silent)
    streams = [clients.call(wire, asking("t16"), streams=True) for wire in wires]
    clients.wait()
    assert {(call.status, call.heard.end, bool(call.heard.text)) for call in streams} == {(200, End.ERROR, True)}


def test_a_node_whose_queue_is_full_is_spared_and_stays_in_use(pair, clients):
    fail(pair.one, "status503")
    calls = [clients.call(wire, asking("t8"), streams=streams) for wire in WIRES[:4] for streams in (False, True) * 2]
    clients.wait()
    assert outcomes(calls) == {Outcome.ANSWERED}
    assert {call.headers["x-sutazai-node"] for call in calls} == {"two"}
    assert not pair.is_open(pair.one)


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
def test_an_error_in_the_middle_of_an_answer_is_told(pair, clients, wire):
    middle = clients.call(wire, asking("t9-d20-error3"), streams=True)
    begin = clients.call(wire, asking("t9-error0"), streams=True)
    whole = clients.call(wire, asking("t9-error3"))
    clients.wait()
    assert (middle.status, middle.heard.end, bool(middle.heard.text)) == (200, End.ERROR, True)
    assert (begin.outcome, whole.outcome) == (Outcome.REFUSED, Outcome.REFUSED)


# Clients ------------------------------------------------------------------------------------------------------------


def test_who_leaves_frees_a_slot_for_whoever_waits_longest(pair, clients, wait_until):
    held = [clients.call(wire, asking(HELD), streams=True) for wire in CANCELLED_WITH_CLIENTS * 2]
    wait_until(lambda: all(call.heard.text for call in held))
    waiting = []
    for number in range(4):
        waiting.append(clients.call(CHAT, asking("t8"), streams=bool(number % 2)))
        wait_until(lambda: len(pair.api("GET", "/api/v1/tasks/?status=queued")["results"]) == len(waiting))
    gone, others = held[0], held[1:]
    node = {"one": pair.one, "two": pair.two}[gone.headers["x-sutazai-node"]]
    clients.leave(gone)
    wait_until(lambda: all(call.ended_at for call in waiting))
    assert outcomes(waiting) == {Outcome.ANSWERED}
    assert [call.headers["x-sutazai-node"] for call in waiting] == [gone.headers["x-sutazai-node"]] * len(waiting)
    moments = [pair.task(call)["granted_at"] for call in waiting]
    assert moments == sorted(moments)
    node.wait_for(lambda stats: stats["in_flight"] == SLOTS - 1)
    assert pair.task(gone)["status"] == "cancelled"
    assert not any(call.ended_at for call in others)


def test_who_leaves_the_queue_takes_nobodys_place(pair, clients, wait_until):
    held = [clients.call(CHAT, asking(HELD), streams=True) for _ in range(2 * SLOTS)]
    wait_until(lambda: all(call.heard.text for call in held))
    waiting = []
    for wire in WIRES[:4]:
        waiting.append(clients.call(wire, asking("t8")))
        wait_until(lambda: len(pair.api("GET", "/api/v1/tasks/?status=queued")["results"]) == len(waiting))
    clients.leave(waiting[0])
    pair.release()
    clients.wait()
    assert outcomes(held + waiting[1:]) == {Outcome.ANSWERED}
    assert sum(answer_of(server, waiting[0].prompt) for server in pair.servers) == 0


# The web process ----------------------------------------------------------------------------------------------------


def tokens_used(pair):
    levels = {item["level"]: item for item in pair.api("GET", "/api/v1/limits/")["limits"]}
    return levels["user"]["tokens_per_day"]["used"]


def test_streams_outlive_the_process_that_serves_them(pair, clients, wait_until):
    used = tokens_used(pair)
    wires = [wire for wire in (CHAT, RESPONSE) for _ in range(SLOTS)]
    calls = [clients.call(wire, asking(HELD), streams=True, key=uuid.uuid4().hex) for wire in wires]
    wait_until(lambda: all(len(call.heard.text) > 20 for call in calls))
    (web,) = pair.program.pids("web")
    os.kill(web, signal.SIGKILL)
    clients.wait()
    assert all(call.cut for call in calls)
    wait_until(pair.program.answers)
    pair.release()
    for call in calls[SLOTS:]:
        rest = clients.resume(call)
        assert rest.numbers == list(range(len(rest.numbers)))
        if pair.lane == "quick":
            assert rest.code == "restarted"
        else:
            assert (rest.end, rest.text) == (End.DONE, tasks.expected_answer(call.prompt))
        whole = clients.read(call)
        assert (whole.end, whole.text) == (End.DONE, tasks.expected_answer(call.prompt))
    wait_until(lambda: all(pair.task(call)["finished_at"] for call in calls))
    rows = [pair.task(call) for call in calls]
    assert {row["status"] for row in rows} == {"succeeded"}
    assert [row["result"] for row in rows] == [tasks.expected_answer(call.prompt) for call in calls]
    assert {row["interruptions"] for row in rows} == {int(pair.lane == "quick")}
    again = [clients.call(call.wire, call.prompt, streams=True, key=call.key) for call in calls]
    clients.wait()
    assert outcomes(again) == {Outcome.ANSWERED}
    assert [call.task for call in again] == [call.task for call in calls]
    assert tokens_used(pair) - used == sum(row["prompt_tokens"] + row["output_tokens"] for row in rows)
