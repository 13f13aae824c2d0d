"""The gateway's faults. Each has calls arrive, breaks something, and heals it before it returns."""

import asyncio
import time
from collections.abc import Coroutine, Iterable
from datetime import datetime, timedelta
from typing import Any

from bench import tasks
from bench.chaos import machine
from bench.chaos.gateway import resuming
from bench.chaos.gateway.calls import Call, Outcome
from bench.chaos.gateway.scene import NODES, RATE, CallScene
from bench.chaos.gateway.wire import CHAT, RESPONSE, Heard
from bench.chaos.scene import Fault
from bench.chaos.verdict import all_tasks

ONE, TWO = range(2)
# While some of these slots are held, others wait in the queue.
FEW_SLOTS = 4
# Submissions as close as this may have come in either order.
SAME_TIME = timedelta(seconds=0.5)
# Once the database takes connections again, calls are answered again after this long at most.
SERVING_SECONDS = 5


async def kill_one_node(scene: CallScene) -> None:
    """Kill one of two model servers while calls arrive; it comes back after a while."""
    arriving = asyncio.create_task(scene.arrive(scene.scale.calls))
    await asyncio.sleep(scene.scale.calls / RATE / 4)
    await scene.kill_node(ONE)
    scene.strike()
    before = list(scene.calls)
    await asyncio.sleep(scene.scale.node_down_seconds)
    await scene.start_node(ONE)
    await arriving
    scene.notes.append(f"used again {await scene.until_used():.1f} s after the last call")
    await scene.drained()
    broken = [call for call in before if call.streams and call.node == NODES[ONE]]
    scene.excuse(broken, Outcome.BROKEN_OFF)
    scene.notes.append(f"{sum(call.outcome is Outcome.BROKEN_OFF for call in broken)} streams were under way there")


async def kill_both_nodes(scene: CallScene) -> None:
    """Kill both model servers; people use the console meanwhile, and calls are answered again once one is back."""
    under_way = await scene.arrive(scene.scale.calls // 3)
    for node in (ONE, TWO):
        await scene.kill_node(node)
    scene.strike()
    meanwhile: list[Call] = []

    async def calls_that_nobody_can_answer() -> None:
        meanwhile.extend(await scene.arrive(scene.scale.calls // 3))

    await scene.while_watching(scene.look_at_console, calls_that_nobody_can_answer())
    await scene.drained()
    scene.excuse(under_way, Outcome.REFUSED)
    scene.excuse((call for call in under_way if call.streams), Outcome.BROKEN_OFF)
    for call in meanwhile:
        call.may = {Outcome.REFUSED}
    await scene.start_node(TWO)
    await _until_answered(scene)
    await scene.start_node(ONE)
    await scene.until_used()
    await scene.arrive(scene.scale.calls // 3)


async def _until_answered(scene: CallScene) -> None:
    started = time.perf_counter()
    outcome = Outcome.OPEN
    while outcome is not Outcome.ANSWERED:
        call = scene.call(CHAT, "t16", streams=False)
        scene.excuse([call], Outcome.REFUSED)
        await scene.drained()
        outcome = call.outcome
        if time.perf_counter() - started > scene.scale.drain_seconds:
            break
        await asyncio.sleep(0.1)
    scene.notes.append(f"answers again {time.perf_counter() - started:.1f} s after a node is back")


async def hang_one_node(scene: CallScene) -> None:
    """One node takes calls and never answers any; its limit for first bytes sends them to the other."""
    scene.patience_seconds = scene.scale.gap_seconds
    async with scene.changed_nodes(first_byte_timeout_seconds=scene.scale.gap_seconds):
        arriving = asyncio.create_task(scene.arrive(scene.scale.calls))
        await asyncio.sleep(scene.scale.calls / RATE / 4)
        await scene.break_node(ONE, "hang")
        scene.strike()
        await arriving
        await scene.drained()
    await scene.mend_node(ONE)
    scene.notes.append(f"used again after {await scene.until_used():.1f} s")


async def silence_one_node(scene: CallScene) -> None:
    """One node falls silent in the middle of its answers; its limit for gaps ends them."""
    scene.patience_seconds = scene.scale.gap_seconds
    async with scene.changed_nodes(gap_timeout_seconds=scene.scale.gap_seconds):
        await _break_answers_of_one_node(scene, "stall3")


async def fail_in_mid_answer(scene: CallScene) -> None:
    """One node reports an error in the middle of its answers."""
    await _break_answers_of_one_node(scene, "error3")


async def cut_connections_in_mid_answer(scene: CallScene) -> None:
    """One node breaks the connection in the middle of its answers."""
    await _break_answers_of_one_node(scene, "cut3")


async def end_answers_without_done(scene: CallScene) -> None:
    """One node ends its answers politely before they are whole; nobody may take them for whole."""
    await _break_answers_of_one_node(scene, "eof3")


async def _break_answers_of_one_node(scene: CallScene, knobs: str) -> None:
    """Streams that began there must end in an error; whole answers come from the other node."""
    scene.strike()
    await scene.break_node(ONE, knobs)
    await scene.arrive(scene.scale.calls)
    await scene.drained()
    for call in scene.calls:
        if call.streams and call.node == NODES[ONE]:
            call.may = {Outcome.BROKEN_OFF}
    await scene.mend_node(ONE)
    await scene.until_used()


async def fill_queue_of_one_node(scene: CallScene) -> None:
    """One node answers 503 to everything; its breaker stays closed."""
    await scene.forget_failures()
    await scene.break_node(ONE, "status503")
    scene.strike()

    async def calls() -> None:
        await scene.arrive(scene.scale.calls)

    await scene.while_watching(scene.look_at_breakers, calls())
    await scene.drained()
    await scene.mend_node(ONE)


async def kill_web(scene: CallScene) -> None:
    """kill -9 the web process while streams are open, half of them responses, whose clients come back."""
    known = set(await all_tasks(scene.callers.client))
    wires = [wire for _ in range(scene.scale.streams // 2) for wire in (RESPONSE, CHAT)]
    calls = [scene.call(wire, "t60-d500", streams=True) for wire in wires]
    await scene.until(lambda: all(call.heard.text for call in calls), "every stream has begun")
    under_way = scene.under_way()
    await scene.kill("web")
    await scene.drained()
    for call in under_way:
        call.may = {Outcome.CUT_OFF}
    responses = [call for call in under_way if call.wire is RESPONSE]
    rests = await asyncio.gather(*(resuming.resume(scene.callers.client, call) for call in responses))
    for call, rest in zip(responses, rests, strict=True):
        _judge_rest(scene, call, rest)
    wholes = await asyncio.gather(*(resuming.read(scene.callers.client, call.heard.identity) for call in responses))
    for call, whole in zip(responses, wholes, strict=True):
        if not resuming.is_whole(whole, call.prompt):
            scene.blame("misnumbered", f"{call}, read again: {whole.end.value} {whole.numbers[-3:]}")
    await scene.until_ended()
    rows = [row for task, row in (await all_tasks(scene.callers.client)).items() if task not in known]
    results = sorted(row["result"] for row in rows if row["status"] == "succeeded")
    if results != sorted(tasks.expected_answer(call.prompt) for call in calls):
        scene.blame("not once", f"{len(results)} answers of {len(rows)} tasks for {len(calls)} calls")
    restarted = sum(rest.code == "restarted" for rest in rests)
    scene.notes.append(f"{len(responses)} responses resumed, {restarted} of them told that they began anew")


def _judge_rest(scene: CallScene, call: Call, rest: Heard) -> None:
    """What was heard before and after must be every event once; then the whole answer, or that it began anew."""
    is_gapless = rest.numbers == list(range(len(rest.numbers)))
    if not is_gapless or not (rest.code == "restarted" or resuming.is_whole(rest, call.prompt)):
        numbers = f"{call.heard.numbers[-3:]} then {rest.numbers[len(call.heard.numbers) :][:3]}"
        scene.blame("misnumbered", f"{call}: {numbers}, {rest.end.value} {rest.error}")


async def kill_worker(scene: CallScene) -> None:
    """kill -9 a worker while calls arrive; what it was answering begins anew."""
    scene.patience_seconds = scene.scale.stop_seconds
    arriving = asyncio.create_task(scene.arrive(scene.scale.calls))
    await asyncio.sleep(scene.scale.calls / RATE / 4)
    scene.strike()
    under_way = scene.under_way()
    await scene.kill("worker")
    await arriving
    await scene.drained()
    if scene.lane == "celery":
        # What a client has heard cannot be taken back.
        scene.excuse((call for call in under_way if call.streams), Outcome.BROKEN_OFF)
    scene.notes.append(f"{sum(call.outcome is Outcome.BROKEN_OFF for call in under_way)} streams broke off")


async def take_database_away(scene: CallScene) -> None:
    """kill -9 PostgreSQL while calls arrive; it comes back after a while."""
    assert scene.services is not None
    database = scene.services.postgresql

    async def gone() -> None:
        await asyncio.to_thread(database.kill)
        await asyncio.sleep(scene.scale.node_down_seconds)
        await asyncio.to_thread(database.start)
        await asyncio.to_thread(database.wait_until_ready)

    await _while_the_database_is_away(scene, gone())


async def lock_database(scene: CallScene) -> None:
    """Hold the lock of SQLite's file while calls arrive."""
    database = scene.group.data_dir / "db.sqlite3"
    held = asyncio.to_thread(machine.hold_lock, database, scene.scale.node_down_seconds)
    await _while_the_database_is_away(scene, held)


async def _while_the_database_is_away(scene: CallScene, gone: Coroutine[Any, Any, None]) -> None:
    """Calls of that time may be refused, for now; what was accepted before may take until it is back."""
    arriving = asyncio.create_task(scene.arrive(scene.scale.calls))
    await asyncio.sleep(scene.scale.calls / RATE / 4)
    scene.strike()
    under_way = scene.under_way()
    await gone
    seconds = time.perf_counter() - scene.struck_at
    scene.patience_seconds = seconds + SERVING_SECONDS
    limit = time.perf_counter() + SERVING_SECONDS
    await arriving
    await scene.drained()
    meanwhile = [call for call in scene.calls if scene.struck_at <= call.sent_at <= limit]
    scene.excuse([*under_way, *meanwhile], Outcome.REFUSED)
    scene.excuse((call for call in [*under_way, *meanwhile] if call.streams), Outcome.BROKEN_OFF)
    answered = sum(call.outcome is Outcome.ANSWERED for call in under_way)
    scene.notes.append(f"away for {seconds:.1f} s; {answered} of {len(under_way)} calls under way were answered")


async def take_redis_away(scene: CallScene) -> None:
    """kill -9 Redis, which is the broker too, while calls arrive; it comes back, empty, after a while.

    The quick lane needs no broker. The workers' lane waits for it.
    """
    assert scene.services is not None
    redis = scene.services.redis
    arriving = asyncio.create_task(scene.arrive(scene.scale.calls))
    await asyncio.sleep(scene.scale.calls / RATE / 4)
    await asyncio.to_thread(redis.kill)
    scene.strike()
    await scene.while_watching(scene.look_at_console, asyncio.sleep(scene.scale.node_down_seconds))
    await asyncio.to_thread(redis.start)
    await asyncio.to_thread(redis.wait_until_ready)
    if scene.lane == "celery":
        scene.patience_seconds = time.perf_counter() - scene.struck_at + SERVING_SECONDS
    await arriving
    await scene.drained()
    if "Redis is away" not in scene.group.log.read_text(errors="replace"):
        scene.blame("untold", "no line of the log tells that Redis was away")


async def leave(scene: CallScene) -> None:
    """Every third client leaves, waiting or in mid-answer; its slot goes to whoever waited longest."""
    earlier = set(await all_tasks(scene.callers.client))
    scene.patience_seconds = scene.scale.drain_seconds  # there is a queue
    scene.strike()
    async with scene.changed_nodes(slots=FEW_SLOTS):
        arriving = asyncio.create_task(scene.arrive(scene.scale.calls // 2))
        while not arriving.done():
            await asyncio.sleep(3 / RATE)
            await scene.callers.leave(scene.rng.choice(scene.calls[-FEW_SLOTS * 4 :]))
        await arriving
        await scene.drained()
        await scene.until_ended()
    left = [call for call in scene.calls if call.has_left]
    scene.excuse(left, Outcome.LEFT)
    rows = {task: row for task, row in (await all_tasks(scene.callers.client)).items() if task not in earlier}
    _judge_order(scene, rows.values())
    for call in left:
        status = rows[call.task]["status"] if call.task in rows else "cancelled"
        if call.wire is not RESPONSE and status not in {"cancelled", "succeeded"}:
            scene.blame("left behind", f"{call}: its task {status}")
    cancelled = sum(row["status"] == "cancelled" for row in rows.values())
    scene.notes.append(f"{len(left)} clients left, {cancelled} tasks were cancelled")


def _judge_order(scene: CallScene, rows: Iterable[dict[str, Any]]) -> None:
    """Of tasks that wait for one model, none overtakes another that was there clearly before."""
    moments = [
        (datetime.fromisoformat(row["created_at"]), datetime.fromisoformat(row["granted_at"]))
        for row in rows
        if row["granted_at"]
    ]
    for came, granted in moments:
        if any(other > came + SAME_TIME and earlier < granted for other, earlier in moments):
            scene.blame("overtaken", f"came at {came}, granted at {granted}")


CALL_FAULTS = (
    Fault("node", "one of two nodes killed", kill_one_node),
    Fault("nodes", "both nodes killed", kill_both_nodes),
    Fault("hang", "a node hangs after it took calls", hang_one_node),
    Fault("silence", "a node falls silent in mid-answer", silence_one_node),
    Fault("error", "a node reports errors in mid-answer", fail_in_mid_answer),
    Fault("break", "a node breaks connections in mid-answer", cut_connections_in_mid_answer),
    Fault("truncate", "a node ends answers without done", end_answers_without_done),
    Fault("storm", "a node answers 503 to everything", fill_queue_of_one_node),
    Fault("streams", "web process killed with streams open", kill_web),
    Fault("worker", "worker killed", kill_worker),
    Fault("database", "PostgreSQL killed", take_database_away, ("rabbitmq", "redis")),
    Fault("lock", "the database file locked", lock_database, ("embedded",)),
    Fault("redis", "Redis killed", take_redis_away, ("redis",)),
    Fault("leave", "clients leave", leave),
)
