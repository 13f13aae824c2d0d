"""The engine under every fault at once, in every order: Hypothesis plays the users, the runners and the weather.

The machine calls the engine's operations as runners and doors do, with a clock of its own and a broker that loses,
repeats and reorders messages. Runners are real processes, and are really killed. After each step every row is held
against its events and against its past; at the end all faults stop and one runner must bring everything to its end.
"""

import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agents.engine import caretaker, hints, operations, remembered
from agents.engine.errors import ModelNotAvailable, ModelUnreachable
from agents.engine.grant import Ticket
from agents.engine.submit import cancel, submit
from agents.engine.writer import apply
from agents.models import Agent, AgentTask, Node, NodeModel
from core.access.limits import allowances
from core.access.limits.refusals import TokenBudgetExhausted, TooManyTasks
from core.exceptions import IdempotencyConflict
from core.models import Allowance, CircuitBreaker, User
from core.net import breakers
from core.ops import clock
from core.ops.processes import ProcessIdentity
from tests.agents.engine.factories import make_agent, make_key, make_node, make_user, open_breaker
from tests.agents.engine.invariants import Snapshot, check, check_step, is_due
from tests.conftest import IN_CI, FakeClock
from tests.factories import make_team

Status = AgentTask.Status
Priority = AgentTask.Priority

SHARED, RARE = "shared:latest", "rare:latest"
DRAIN_SECONDS = 90  # from the end of all faults to the end of all tasks: a lease, a retry's delay, and the work itself
WEATHER = ["death", "birth", "drain", "vanish", "load", "down", "broker"]
DELIVERIES = ["once", "once", "twice", "kept", "together", "lost"]
TABLES = [
    "agents_taskevent",
    "agents_chatmessage",
    "agents_agenttask",
    "agents_chatsession",
    "agents_nodemodel",
    "agents_node",
    "core_circuitbreakerchange",
    "core_circuitbreaker",
    "core_idempotencyrecord",
    "core_lease",
    "core_allowance",
    "core_tokenuse",
    "agents_queueshare",
]

few = st.integers(0, 11)  # picks from a list by position, so that examples shrink


class Runner:
    """A process that takes tasks; it sleeps, and this test does its work."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["sleep", "1000"])
        self.name = str(ProcessIdentity.of(self.process.pid))

    @property
    def is_alive(self) -> bool:
        return self.process.returncode is None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass(eq=False)
class Run:
    """What a runner believes: that it holds a task under a fence, and how much of the answer it wrote."""

    task_id: uuid.UUID
    fence: int
    runner: Runner
    written: int = 0

    @property
    def rest(self) -> str:
        return answer_to(self.task_id)[self.written :]


def answer_to(task_id: uuid.UUID) -> str:
    """The one right answer to a task, however often and by whomever it is run."""
    return f"The answer to {task_id}."


def end_of(run: Run, outcome: str, taker: Runner | None) -> operations.Finish:
    next_for = taker.name if taker else ""
    if outcome == "failure":
        return operations.Finish(
            run.task_id, run.fence, Status.FAILED, error_code="no-luck", error_detail="It failed.", next_for=next_for
        )
    fields = {"result": answer_to(run.task_id)}
    return operations.Finish(
        run.task_id,
        run.fence,
        Status.SUCCEEDED,
        tail={"text": run.rest} if run.rest else {},
        fields=fields,
        next_for=next_for,
    )


def pick(items: Sequence[Any], index: int) -> Any:
    return items[index % len(items)]


class EngineMachine(RuleBasedStateMachine):
    user: User
    people: list[User]
    agents: dict[str, Agent]

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self._previous_clock = clock.use(self.clock.now)
        hints.granted_listeners.append(self._publish)
        self.messages: list[uuid.UUID] = []
        self.is_broker_up = True
        self.runners = [Runner(), Runner()]
        self.runs: list[Run] = []
        self.tickets: set[tuple[uuid.UUID, int]] = set()
        self.acknowledged: set[uuid.UUID] = set()
        self.keys: dict[str, tuple[str, uuid.UUID]] = {}
        self.before = Snapshot({}, {})

    # The world ------------------------------------------------------------------------------------------------------

    @initialize(slots=st.tuples(st.integers(1, 3), st.integers(1, 2)), is_small=st.booleans())
    def prepare(self, slots: tuple[int, int], is_small: bool) -> None:
        with connection.cursor() as cursor:
            for table in TABLES:
                cursor.execute(f"DELETE FROM {table}")
        allowances.forget()
        make_node(SHARED, RARE, slots=slots[0], max_loaded_models=1 if is_small else None)
        make_node(SHARED, slots=slots[1])
        for model in (SHARED, SHARED, RARE):
            self._submit(model, None, "first", talks=True)
        self._take([operations.Take(task_id, self.runners[0].name) for task_id in self.messages])

    def _publish(self, task_ids: Sequence[uuid.UUID]) -> None:
        """What the announcer does, with a broker that may be down."""
        if self.is_broker_up:
            self.messages.extend(task_ids)
            apply(operations.mark_announced, list(task_ids))

    # Users ----------------------------------------------------------------------------------------------------------

    @rule(
        model=st.sampled_from([SHARED, SHARED, RARE]),
        key=st.sampled_from([None, None, "red", "green"]),
        body=st.sampled_from(["one", "two"]),
        talks=st.booleans(),
        count=st.integers(1, 3),
        who=few,
        priority=st.sampled_from([Priority.NORMAL, Priority.NORMAL, Priority.INTERACTIVE, Priority.BACKGROUND]),
    )
    def submit(
        self, *, model: str, key: str | None, body: str, talks: bool, count: int, who: int, priority: Priority
    ) -> None:
        for _ in range(count):
            self._submit(model, key, body, talks, owner=pick(self.people, who), priority=priority)

    def _submit(
        self,
        model: str,
        key: str | None,
        body: str,
        talks: bool,
        *,
        owner: User | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> None:
        idempotency_key = make_key(key, body + model) if key else None
        known = self.keys.get(key) if key else None
        rows_before = len(self.acknowledged)
        remembered.forget()  # a second passes between two steps
        try:
            accepted = submit(
                agent=self.agents[model],
                owner=owner or self.user,
                priority=priority,
                input={"message": body},
                starts_session=talks,
                idempotency_key=idempotency_key,
            )
        except IdempotencyConflict:
            assert known is not None
            assert known[0] != body + model
            return
        except ModelNotAvailable:
            assert known is None
            assert not NodeModel.objects.filter(name=model, is_available=True).exists()
            return
        except ModelUnreachable:
            assert known is None
            assert NodeModel.objects.filter(name=model, is_available=True).exists()
            assert not NodeModel.objects.filter(name=model, is_available=True).working().exists()
            return
        except (TokenBudgetExhausted, TooManyTasks):
            assert known is None
            assert Allowance.objects.exists()
            assert AgentTask.objects.count() == rows_before, "a task was refused and made"
            return
        if key:
            assert known is None or known == (body + model, accepted.task_id), "I9: one key, two meanings"
            self.keys[key] = (body + model, accepted.task_id)
        assert accepted.is_replay == (known is not None)
        self.acknowledged.add(accepted.task_id)
        assert AgentTask.objects.count() == rows_before + (known is None)

    @rule(
        of_day=st.sampled_from([None, 2_500, 6_000]),
        of_month=st.sampled_from([None, 4_000]),
        tasks=st.sampled_from([None, 4]),
    )
    def change_the_budget(self, of_day: int | None, of_month: int | None, tasks: int | None) -> None:
        """An operator gives the team a budget, another one, or takes it away, whatever is open."""
        Allowance.objects.update_or_create(
            team=self.user.team,
            defaults={"tokens_per_day": of_day, "tokens_per_month": of_month, "concurrent_tasks": tasks},
        )

    @rule(index=few)
    @precondition(lambda self: self.acknowledged)
    def cancel(self, index: int) -> None:
        row = pick(list(self.before.tasks.values()), index)
        assert cancel(row["id"]) is (row["finished_at"] is None)
        assert AgentTask.objects.get(pk=row["id"]).is_finished

    @rule(index=few, priority=st.sampled_from(Priority))
    @precondition(lambda self: self.acknowledged)
    def prioritise(self, index: int, priority: Priority) -> None:
        row = pick(list(self.before.tasks.values()), index)
        waits = row["status"] == Status.QUEUED
        assert apply(operations.prioritise, [operations.Prioritise(row["id"], priority)]) == [waits]
        assert AgentTask.objects.get(pk=row["id"]).priority == (priority if waits else row["priority"])

    # Runners --------------------------------------------------------------------------------------------------------

    @rule(
        indexes=st.lists(few, min_size=1, max_size=3),
        which=few,
        how=st.sampled_from(DELIVERIES),
    )
    @precondition(lambda self: self.messages and self._alive())
    def deliver(self, indexes: list[int], which: int, how: str) -> None:
        """Messages arrive: any of those on the way, and perhaps once more, now or later; or they never do."""
        for index in indexes[: len(self.messages)]:
            self._deliver(index, which, how)

    def _deliver(self, index: int, which: int, how: str) -> None:
        task_id = pick(self.messages, index)
        if how != "kept":
            self.messages.remove(task_id)
        if how == "lost":
            return
        runner, other = pick(self._alive(), which), pick(self._alive(), which + 1)
        takes = [operations.Take(task_id, runner.name)]
        if how == "together":
            takes.append(operations.Take(task_id, other.name))
        self._take(takes)
        if how == "twice":
            assert self._take(takes) == [None], "I11: one grant was taken twice"

    @rule(which=few, count=st.integers(1, 3))
    @precondition(lambda self: self._alive())
    def look_for_the_oldest(self, which: int, count: int) -> None:
        """Threads that turned messages away look for what those were about."""
        runner = pick(self._alive(), which)
        waiting = AgentTask.objects.running().filter(runner="").order_by("pk").values_list("pk", flat=True)
        expected = set(waiting[:count])
        tickets = [ticket for ticket in apply(operations.take_oldest, [runner.name] * count) if ticket is not None]
        assert {ticket.task_id for ticket in tickets} == expected
        for ticket in tickets:
            self._begin(ticket, runner)

    def _take(self, takes: list[operations.Take]) -> list[Ticket | None]:
        tickets = apply(operations.take, takes)
        for take, ticket in zip(takes, tickets, strict=True):
            if ticket is not None:
                self._begin(ticket, next(runner for runner in self.runners if runner.name == take.runner))
        return tickets

    def _begin(self, ticket: Ticket, runner: Runner) -> None:
        key = (ticket.task_id, ticket.fence)
        assert key not in self.tickets, "I4: the same right to run was given twice"
        self.tickets.add(key)
        row = AgentTask.objects.get(pk=ticket.task_id)
        assert (row.status, row.fence, row.runner) == (Status.RUNNING, ticket.fence, runner.name)
        assert ticket.interruptions == row.interruptions
        self.runs.append(Run(ticket.task_id, ticket.fence, runner))

    @rule(picks=st.lists(few, min_size=1, max_size=4), length=st.integers(0, 9))
    @precondition(lambda self: self.runs)
    def append(self, picks: list[int], length: int) -> None:
        """Runs write a piece each, in one batch; some of them lost their task long ago."""
        runs = list(dict.fromkeys(pick(self.runs, index) for index in picks))
        pieces = [run.rest[:length] for run in runs]
        changes = [
            operations.Append(
                run.task_id, run.fence, clock.now(), lambda piece=piece: {"text": piece} if piece else {}
            )
            for run, piece in zip(runs, pieces, strict=True)
        ]
        for run, piece, is_written in zip(runs, pieces, apply(operations.append, changes), strict=True):
            assert is_written is (not piece or self._held(run))
            if is_written:
                run.written += len(piece)

    @rule(
        picks=st.lists(few, min_size=1, max_size=3),
        outcome=st.sampled_from(["success", "success", "failure"]),
        taker=st.none() | few,
    )
    @precondition(lambda self: self.runs and self._alive())
    def finish(self, picks: list[int], outcome: str, taker: int | None) -> None:
        """Runs end in one batch, the same one perhaps twice, and may go on with what waits."""
        runs = [pick(self.runs, index) for index in picks]
        expected = [self._held(run) and run not in runs[:number] for number, run in enumerate(runs)]
        runner = None if taker is None else pick(self._alive(), taker)
        results = apply(operations.finish, [end_of(run, outcome, runner) for run in runs])
        assert [result.is_owner for result in results] == expected
        for result in results:
            if result.next_ticket is not None:
                assert result.is_owner
                assert runner is not None
                self._begin(result.next_ticket, runner)

    @rule(
        index=few,
        counts=st.sampled_from([None, "attempts"]),
        delay=st.sampled_from([0, 3, 20]),
    )
    @precondition(lambda self: self.runs)
    def send_back(self, index: int, counts: str | None, delay: int) -> None:
        """A graceful stop, or an error worth another try."""
        run = pick(self.runs, index)
        is_held = self._held(run)
        change = operations.SendBack(run.task_id, run.fence, "again", counts=counts, delay_seconds=delay)
        assert apply(operations.send_back, [change]) == [is_held]
        if is_held and delay:
            assert AgentTask.objects.get(pk=run.task_id).status == Status.QUEUED, "it did not wait for its time"

    @rule(picks=st.lists(few, min_size=1, max_size=4))
    @precondition(lambda self: self.runs)
    def renew(self, picks: list[int]) -> None:
        runs = list(dict.fromkeys(pick(self.runs, index) for index in picks))
        leases = [operations.Renew(run.task_id, run.fence) for run in runs]
        expected = [self._held(run) for run in runs]
        assert operations.still_held(leases) == expected
        assert apply(operations.renew, leases) == expected

    # The weather ----------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.3, 1, 5, 12, 35, 200]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(what=st.sampled_from(WEATHER), index=few, is_good=st.booleans())
    def change_the_weather(self, what: str, index: int, is_good: bool) -> None:
        """Runners die and start; nodes drain and fail; models are deleted, pulled and loaded; the broker fails."""
        if what == "death":
            pick(self.runners, index).kill()
        elif what == "birth" and len(self.runners) < 6:
            self.runners.append(Runner())
        elif what == "drain":
            node = pick(list(Node.objects.order_by("pk")), index)
            Node.objects.filter(pk=node.pk).update(is_draining=not is_good)
        elif what == "down":
            node = pick(list(Node.objects.order_by("pk")), index)
            if is_good:
                breakers.reset(node.breaker_id, by=self.user)
            else:
                open_breaker(node)
        elif what in {"vanish", "load"}:
            place = pick(list(NodeModel.objects.order_by("pk")), index)
            column = "is_available" if what == "vanish" else "is_loaded"
            NodeModel.objects.filter(pk=place.pk).update(**{column: is_good})
        elif what == "broker":
            self.is_broker_up = is_good

    # The caretaker --------------------------------------------------------------------------------------------------

    @rule(part=st.sampled_from(["free_dead_runners", "relay", "reap", "nonsense"]))
    def caretake(self, part: str) -> None:
        getattr(self, f"_{part}")()

    def _free_dead_runners(self) -> None:
        dead = [runner.name for runner in self.runners if not runner.is_alive]
        held = AgentTask.objects.running().filter(runner__in=dead).count()
        assert caretaker.free_dead_runners() == held
        assert not AgentTask.objects.running().filter(runner__in=dead).exists()

    def _relay(self) -> None:
        caretaker.relay()
        snapshot = Snapshot.read()
        now = self.clock.now()
        usable = NodeModel.objects.filter(is_available=True, node__is_draining=False).working()
        for place in usable.select_related("node"):
            taken = sum(
                row["node_model_id"] == place.pk and row["status"] == Status.RUNNING for row in snapshot.tasks.values()
            )
            waiting = [
                row
                for row in snapshot.tasks.values()
                if row["status"] == Status.QUEUED and row["model"] == place.name and is_due(row, now)
            ]
            if place.node.max_loaded_models is None:
                assert not waiting or taken == place.node.slots, "a slot is free and a task waits for it"
            else:
                is_at_work = any(
                    row["node_id"] == place.node_id and row["status"] == Status.RUNNING
                    for row in snapshot.tasks.values()
                )
                assert not waiting or is_at_work, "a node does nothing and a task waits for it"
        if self.is_broker_up:
            for row in snapshot.tasks.values():
                if row["status"] == Status.RUNNING and not row["runner"] and row["announced_at"] is None:
                    age = (now - row["granted_at"]).total_seconds()
                    assert age <= django_settings.RELAY_SECONDS, "I8: nobody announced a grant"

    def _reap(self) -> None:
        caretaker.reap()
        now = self.clock.now()
        for row in Snapshot.read().tasks.values():
            assert row["finished_at"] or row["deadline_at"] > now, "I7: a task outlived its deadline"
            assert row["status"] != Status.RUNNING or row["lease_until"] >= now, "I4: a lease outlived its time"

    def _alive(self) -> list[Runner]:
        return [runner for runner in self.runners if runner.is_alive]

    def _held(self, run: Run) -> bool:
        return AgentTask.objects.running().filter(pk=run.task_id, fence=run.fence).exists()

    def _nonsense(self) -> None:
        """Messages for tasks that were never granted, have ended, or do not exist."""
        granted = set(AgentTask.objects.running().filter(runner="").values_list("pk", flat=True))
        stray = [*(self.acknowledged - granted), uuid.uuid4()]
        assert self._take([operations.Take(task_id, self.runners[0].name) for task_id in stray]) == [None] * len(stray)

    # What holds -----------------------------------------------------------------------------------------------------

    @invariant()
    def rows_events_and_past_agree(self) -> None:
        after = Snapshot.read()
        check(after)
        check_step(self.before, after, self.clock.now())
        assert self.acknowledged == after.tasks.keys(), "I1: an accepted task is missing, or one came from nowhere"
        for task_id, row in after.tasks.items():
            assert row["result"] in (None, answer_to(task_id)), "I11: the answer was mangled"
            assert row["runner"] == "" or (task_id, row["fence"]) in self.tickets
        self.before = after

    def teardown(self) -> None:
        try:
            self._recover()
        finally:
            for runner in self.runners:
                runner.kill()
            hints.granted_listeners.remove(self._publish)
            clock.use(self._previous_clock)

    def _recover(self) -> None:
        """All faults stop, those who hold tasks and do nothing included; one runner works."""
        Node.objects.update(is_draining=False)
        NodeModel.objects.update(is_available=True)
        for breaker in CircuitBreaker.objects.shut():
            breakers.reset(breaker.pk, by=self.user)
        self.is_broker_up = True
        worker = Runner()
        self.runners.append(worker)
        for _ in range(DRAIN_SECONDS // 5):
            self._free_dead_runners()
            self._relay()
            self._reap()
            self._work(worker)
            self.rows_events_and_past_agree()
            if not AgentTask.objects.unfinished().exists():
                return
            self.clock.advance(5)
        stuck = AgentTask.objects.unfinished().values()
        raise AssertionError(f"I13: these never end: {list(stuck)}")

    def _work(self, worker: Runner) -> None:
        while self.messages:
            messages, self.messages = self.messages, []
            tickets = self._take([operations.Take(task_id, worker.name) for task_id in messages])
            runs = self.runs[len(self.runs) - sum(ticket is not None for ticket in tickets) :]
            while runs:
                finished = apply(operations.finish, [end_of(run, "success", worker) for run in runs])
                assert all(result.is_owner for result in finished)
                already = len(self.runs)
                for result in finished:
                    if result.next_ticket is not None:
                        self._begin(result.next_ticket, worker)
                runs = self.runs[already:]


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_every_accepted_task_ends_once_whatever_happens(effort):
    EngineMachine.user = user = make_user()
    stranger = make_user()
    stranger.team = make_team()
    stranger.save()
    EngineMachine.people = [user, make_user(), stranger]
    EngineMachine.agents = {
        SHARED: make_agent(user, model=SHARED),
        RARE: make_agent(user, model=RARE, deadline_seconds=60),
    }
    run_state_machine_as_test(
        EngineMachine,
        settings=settings(
            max_examples=effort(20),
            stateful_step_count=50,
            deadline=None,
            derandomize=IN_CI,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
