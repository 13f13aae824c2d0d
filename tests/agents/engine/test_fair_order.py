"""In which order those who wait for a model are granted its slots."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agents.engine import admission, operations
from agents.engine.submit import cancel, prepare, prioritise
from agents.engine.writer import apply
from agents.models import Agent, AgentTask, QueueShare
from core.models import Allowance, Team, User
from tests.agents.engine.factories import (
    MODEL,
    make_agent,
    make_node,
    make_user,
    send_back,
    submit_task,
    succeed,
    take,
)
from tests.factories import make_team

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

Priority = AgentTask.Priority


def person(name: str, team: Team | None = None) -> User:
    user = make_user(name)
    if team is not None:
        user.team = team
        user.save()
    return user


def ask(agent: Agent, who: User | None = None, **asked: object) -> AgentTask:
    change = prepare(agent=agent, owner=who or agent.owner, input={"message": "hi"}, **asked)
    (submitted,) = apply(admission.submit, [change])
    return AgentTask.objects.get(pk=submitted.task_id)


def order_of_grants(count: int = 1000) -> list[AgentTask]:
    """End one task after the other; returns those that were granted by that, so many at most."""
    order: list[AgentTask] = []
    while len(order) < count:
        succeed(take(AgentTask.objects.running().get()), "")
        if not (granted := AgentTask.objects.running().first()):
            break
        order.append(granted)
    return order


def names(tasks: list[AgentTask]) -> str:
    return " ".join(task.owner.username for task in tasks)


@pytest.fixture
def agent() -> Agent:
    """An agent whose only slot is taken."""
    make_node(slots=1)
    agent = make_agent()
    submit_task(agent)
    return agent


def test_higher_classes_go_first_and_the_front_before_all(agent):
    last, third, second = (
        ask(agent, priority=priority) for priority in (Priority.BACKGROUND, Priority.NORMAL, Priority.INTERACTIVE)
    )
    first = ask(agent, priority=Priority.BACKGROUND)
    prioritise(first.pk, Priority.FRONT)
    assert order_of_grants() == [first, second, third, last]


def test_whoever_waits_long_moves_up_a_class(agent, fake_clock, settings):
    settings.QUEUE_AGING_SECONDS = 60
    old = ask(agent, priority=Priority.BACKGROUND)
    fake_clock.advance(59)
    younger = ask(agent, priority=Priority.BACKGROUND)
    fake_clock.advance(1)
    normal = ask(agent, priority=Priority.NORMAL)
    assert order_of_grants() == [old, normal, younger]


def test_after_two_such_waits_nothing_overtakes_any_more(agent, fake_clock, settings):
    settings.QUEUE_AGING_SECONDS = 60
    old = ask(agent, priority=Priority.BACKGROUND)
    fake_clock.advance(119)
    interactive = ask(agent, priority=Priority.INTERACTIVE)
    assert order_of_grants(1) == [interactive]
    fake_clock.advance(1)
    ask(agent, priority=Priority.INTERACTIVE)
    assert order_of_grants(1) == [old]


def test_a_second_try_counts_the_time_since_the_first(agent, fake_clock, settings):
    settings.QUEUE_AGING_SECONDS = 60
    tried = ask(agent, priority=Priority.NORMAL)
    assert order_of_grants(1) == [tried]
    fake_clock.advance(50)
    assert send_back(take(tried), counts="attempts", delay_seconds=10)
    fake_clock.advance(10)
    interactive = ask(agent, priority=Priority.INTERACTIVE)
    apply(operations.grant_waiting, [MODEL])
    assert list(AgentTask.objects.running()) == [tried]
    assert order_of_grants() == [interactive]


def test_people_of_a_team_take_turns(agent):
    ada, ben = person("ada"), person("ben")
    for who in (ada, ada, ada, ada, ben, ben):
        ask(agent, who)
    assert names(order_of_grants()) == "ada ben ada ben ada ada"


def test_one_person_s_tasks_stay_in_their_order(agent):
    ada, ben = person("ada"), person("ben")
    asked = [ask(agent, who) for who in (ada, ben, ada, ben, ada)]
    granted = order_of_grants()
    for who in (ada, ben):
        assert [task for task in granted if task.owner == who] == [task for task in asked if task.owner == who]


def test_teams_take_turns_however_many_people_they_have(agent):
    crowd, small = make_team(), make_team()
    for name in ("ada", "ben", "cyd"):
        many = person(name, crowd)
        ask(agent, many), ask(agent, many)
    lone = person("lone", small)
    for _ in range(3):
        ask(agent, lone)
    assert names(order_of_grants()) == "ada lone ben lone cyd lone ada ben cyd"


@pytest.mark.parametrize("whose", ["user", "team"])
def test_shares_weigh_people_and_teams(agent, whose):
    teams = [make_team(), make_team()] if whose == "team" else [None, None]
    ada, ben = person("ada", teams[0]), person("ben", teams[1])
    Allowance.objects.create(**{whose: ada if whose == "user" else teams[0]}, queue_share=3)
    for _ in range(9):
        ask(agent, ada), ask(agent, ben)
    granted = names(order_of_grants(12)).split()
    assert (granted.count("ada"), granted.count("ben")) == (9, 3)
    assert all(granted[start : start + 4].count("ben") == 1 for start in (0, 4, 8))


def test_whoever_comes_back_from_idleness_has_saved_nothing(agent):
    ada, ben = person("ada"), person("ben")
    ask(agent, ben)
    for _ in range(8):
        ask(agent, ada)
    order_of_grants(7)  # ben once, then ada alone
    for _ in range(3):
        ask(agent, ben)
    assert names(order_of_grants(5)) == "ben ada ben ada ben"


def test_whoever_waits_alone_pays_too_and_a_smaller_share_is_not_made_up_by_coming_often(agent):
    ada, ben = person("ada"), person("ben")
    Allowance.objects.create(user=ben, queue_share=0.25)
    for _ in range(12):
        ask(agent, ada)
    turns = []
    for _ in range(12):
        if not AgentTask.objects.queued().filter(owner=ben).exists():
            ask(agent, ben)  # always one that waits, never two
        turns += order_of_grants(1)
    assert 2 <= names(turns).count("ben") <= 3


def test_queues_of_models_are_apart(agent):
    make_node("other:latest", slots=1)
    other = make_agent(model="other:latest")
    ada = person("ada")
    ask(other, ada)
    for _ in range(3):
        ask(other, ada)
        ask(agent, ada)
    running = AgentTask.objects.running().get(model="other:latest")
    succeed(take(running), "")
    assert {share.model for share in QueueShare.objects.all()} == {"other:latest"}
    assert {share.subject for share in QueueShare.objects.all()} == {f"team:{ada.team_id}", f"user:{ada.pk}"}


def test_several_slots_are_filled_in_the_order_in_which_single_ones_would_be():
    node = make_node(slots=4, is_draining=True)
    agent = make_agent()
    ada, ben = person("ada"), person("ben")
    asked = [ask(agent, who) for who in (ada, ada, ada, ada, ben, ben)]
    node.is_draining = False
    node.save()
    apply(operations.grant_waiting, [MODEL])
    assert set(AgentTask.objects.running()) == {asked[0], asked[1], asked[4], asked[5]}


def test_a_task_that_is_cancelled_costs_nobody_a_turn(agent):
    ada, ben = person("ada"), person("ben")
    first, *_ = [ask(agent, ada) for _ in range(3)]
    ask(agent, ben)
    assert cancel(first.pk)
    assert names(order_of_grants()) == "ada ben ada"


def statements_of(captured: CaptureQueriesContext) -> list[str]:
    """What was asked, without what is remembered for seconds: the time, and limits."""
    aside = ("SAVEPOINT", "clock_timestamp", "core_allowance")
    return [query["sql"] for query in captured if not any(word in query["sql"] for word in aside)]


@pytest.mark.parametrize("max_loaded_models", [None, 1])
def test_where_nobody_waits_fairness_costs_no_statement_and_no_turn(max_loaded_models):
    """The counts of the days when the queue was first come, first served."""
    node = make_node(MODEL, "other:latest", slots=2, max_loaded_models=max_loaded_models)
    node.places.filter(name=MODEL).update(is_loaded=True)
    agent = make_agent()
    change = prepare(agent=agent, owner=agent.owner, input={"message": "hi"})
    with CaptureQueriesContext(connection) as submitting:
        apply(admission.submit, [change])
    assert len(statements_of(submitting)) == 4  # places, load, task, events
    ticket = take(AgentTask.objects.get())
    end = operations.Finish(ticket.task_id, ticket.fence, AgentTask.Status.SUCCEEDED, fields={"result": ""})
    with CaptureQueriesContext(connection) as finishing:
        apply(operations.finish, [end])
    # The task, its end, the event, and whether anybody waits; PostgreSQL cannot tell, and reads places and load.
    assert len(statements_of(finishing)) == (4 if connection.vendor == "sqlite" else 5)
    assert not QueueShare.objects.exists()


def test_the_length_of_the_queue_changes_no_number_of_statements(agent):
    def statements_of_a_grant() -> int:
        ticket = take(AgentTask.objects.running().get())
        end = operations.Finish(ticket.task_id, ticket.fence, AgentTask.Status.SUCCEEDED, fields={"result": ""})
        with CaptureQueriesContext(connection) as captured:
            apply(operations.finish, [end])
        return len(statements_of(captured))

    for _ in range(2):
        ask(agent, person("")), ask(agent, person("", make_team()))
    few = statements_of_a_grant()
    for _ in range(20):
        ask(agent, person("", make_team()), priority=Priority.BACKGROUND)
    assert statements_of_a_grant() == few


def test_the_waiting_are_found_in_an_index_alone(agent):
    """Rows hold what was asked, which may be megabytes."""
    if connection.vendor == "postgresql":
        pytest.skip("PostgreSQL keeps long values apart from their rows")
    ask(agent)
    with CaptureQueriesContext(connection) as captured:
        order_of_grants(1)
    (looking,) = [query["sql"] for query in captured if "ROW_NUMBER" in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {looking}")
        plan = " ".join(str(row) for row in cursor.fetchall())
        cursor.execute(f"EXPLAIN {looking}")
        steps = [row[1:6] for row in cursor.fetchall()]
    assert "INDEX queue_of_model" in plan
    assert "TEMP B-TREE" not in plan  # nothing has to be sorted
    tables = {cursor for step, cursor, *_, what in steps if step == "OpenRead" and not what.startswith("k(")}
    assert not [step for step, cursor, *_ in steps if step == "Column" and cursor in tables]
