"""Who goes first among the tasks that wait for a model.

1. Classes are strict. Whoever waits longer than SUTAZAI_QUEUE_AGING_SECONDS moves up a class, so that nothing starves;
   only operators move a task to the front.
2. Within a class teams take turns, and within a team its people, by their shares: stride scheduling.
3. Of one person's tasks, the first to come goes first.
"""

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from heapq import heapify, heappop, heappush

from django.conf import settings

from agents.engine import statements
from agents.engine.statements import Waiting
from agents.models import AgentTask
from core.access.limits.allowances import level_of
from core.access.limits.subjects import Subject

# The highest class that one gets into by waiting.
_HIGHEST = AgentTask.Priority.INTERACTIVE.value


def class_of(task: Waiting, now: datetime) -> int:
    """The class, a `Priority`, that a task waits in by now."""
    if task.priority <= _HIGHEST:
        return task.priority
    steps = int((now - task.created_at).total_seconds() // settings.QUEUE_AGING_SECONDS)
    return max(_HIGHEST, task.priority - max(0, steps))


class Turns:
    """How far teams and people got in the queue of a model, in virtual time (see `QueueShare`)."""

    def __init__(self, rows: Iterable[tuple[str, str, float]] = ()) -> None:
        """rows: subject, within, passed."""
        self._passed: dict[Subject, float] = {}
        # The time now, among teams ("") and among the people of each team.
        self._latest: dict[str, float] = defaultdict(float)
        self._costs: dict[Subject, float] = {}
        self._changed: dict[Subject, str] = {}
        for subject, within, passed in rows:
            self._passed[Subject.read(subject)] = passed
            self._latest[within] = max(self._latest[within], passed)

    def copy(self) -> "Turns":
        twin = Turns()
        twin._passed, twin._costs = dict(self._passed), self._costs
        twin._latest.update(self._latest)
        return twin

    def next_of(self, subject: Subject, within: str) -> float:
        """When the next task of a subject is to be granted; who comes back from idleness begins now."""
        if subject not in self._passed:
            return self._latest[within]
        if subject not in self._costs:
            self._costs[subject] = 1 / (level_of(subject).queue_share or 1)
        return max(self._latest[within], self._passed[subject] + self._costs[subject])

    def take(self, subject: Subject, within: str) -> None:
        """Grant a task to a subject: that costs it its turn."""
        self._passed[subject] = self._latest[within] = self.next_of(subject, within)
        self._changed[subject] = within

    def charge(self, task: Waiting) -> None:
        """Grant a task."""
        team, person = subjects_of(task)
        self.take(team, "")
        self.take(person, str(team))

    def changes(self) -> list[tuple[str, str, float]]:
        """The rows of those who were granted tasks: subject, within, passed."""
        return [(str(subject), within, self._passed[subject]) for subject, within in self._changed.items()]


def turns_of(models: Collection[str]) -> dict[str, Turns]:
    """Read how far everybody got in the queues of these models."""
    rows: dict[str, list[tuple[str, str, float]]] = {model: [] for model in models}
    for model, subject, within, passed in statements.queue_shares(models) if models else ():
        rows[model].append((subject, within, passed))
    return {model: Turns(of_model) for model, of_model in rows.items()}


def write_turns(turns: Mapping[str, Turns]) -> None:
    """Write down how far those got who were granted tasks."""
    statements.write_queue_shares([(model, *row) for model, taken in turns.items() for row in taken.changes()])


def subjects_of(task: Waiting) -> tuple[Subject, Subject]:
    """Who pays for a task: the team, and the person within it."""
    return Subject("team", task.team_id), Subject("user", task.owner_id)


def in_order(waiting: Iterable[Waiting], turns: Turns, now: datetime) -> Iterator[Waiting]:
    """Yield tasks of one model in the order in which they are to be granted if nobody else comes. Charges nobody."""
    classes: dict[int, list[Waiting]] = defaultdict(list)
    for task in waiting:
        classes[class_of(task, now)].append(task)
    turns = turns.copy()
    for _, tasks in sorted(classes.items()):
        line = _line_of_teams(tasks, turns)
        while line:
            yield line.pop()


class _Line:
    """The tasks of one person."""

    def __init__(self, tasks: Iterable[Waiting]) -> None:
        self._tasks = deque(sorted(tasks, key=lambda task: task.id))

    def __bool__(self) -> bool:
        return bool(self._tasks)

    @property
    def head(self) -> Waiting:
        return self._tasks[0]

    def pop(self) -> Waiting:
        return self._tasks.popleft()


class _SharedLine:
    """Lines of several subjects, that take turns. Where two come at the same virtual time, the older task goes first.

    The heap needs no second look: nobody's next turn is before the latest one taken.
    """

    def __init__(self, lines: Mapping[Subject, "_Line | _SharedLine"], turns: Turns, within: str = "") -> None:
        self._turns = turns
        self._within = within
        self._heap = [self._entry(subject, line) for subject, line in lines.items()]
        heapify(self._heap)

    def _entry(
        self, subject: Subject, line: "_Line | _SharedLine"
    ) -> "tuple[float, object, Subject, _Line | _SharedLine]":
        return self._turns.next_of(subject, self._within), line.head.id, subject, line

    def __bool__(self) -> bool:
        return bool(self._heap)

    @property
    def head(self) -> Waiting:
        return self._heap[0][3].head

    def pop(self) -> Waiting:
        _, _, subject, line = heappop(self._heap)
        task = line.pop()
        self._turns.take(subject, self._within)
        if line:
            heappush(self._heap, self._entry(subject, line))
        return task


def _line_of_teams(tasks: Iterable[Waiting], turns: Turns) -> _SharedLine:
    teams: dict[Subject, dict[Subject, list[Waiting]]] = defaultdict(lambda: defaultdict(list))
    for task in tasks:
        team, person = subjects_of(task)
        teams[team][person].append(task)
    lines = {
        team: _SharedLine({person: _Line(mine) for person, mine in people.items()}, turns, within=str(team))
        for team, people in teams.items()
    }
    return _SharedLine(lines, turns)
