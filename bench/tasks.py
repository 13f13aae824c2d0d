"""What benchmarks and chaos ask of the API, and the answers that the test server must have given."""

import uuid
from typing import Any

from bench.client import Client, Following, Response
from tests.ollama_server import answers, knobs

AGENT = "bench"
DEADLINE_SECONDS = 24 * 3600
FINISHED = frozenset({"succeeded", "failed", "cancelled", "expired"})


class UnexpectedAnswerError(Exception):
    """The API answered what it must not. status: of an answer that has another one than it should."""

    def __init__(self, text: str, *, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


def expect(response: Response, *statuses: int) -> Any:
    """Return the response's JSON. Raises UnexpectedAnswerError for any other status."""
    if response.status not in statuses:
        raise UnexpectedAnswerError(f"status {response.status}: {response.body[:500].decode(errors='replace')}")
    return response.json()


def expected_answer(prompt: str) -> str:
    """The whole answer of the test server to a prompt."""
    return "".join(answers.echo(prompt, tokens=knobs.in_prompt(prompt).t))


async def create_agent(client: Client) -> None:
    """Make the agent that everything is asked of: chat, on whichever model the node has.

    Nothing takes as long as its deadline, not even by a clock that is set.
    """
    body = {"name": AGENT, "kind": "chat", "version": {"model": "tinyllama", "deadline_seconds": DEADLINE_SECONDS}}
    expect(await client.request("POST", "/api/v1/agents/", body, headers=new_key()), 201)


def new_key() -> dict[str, str]:
    return {"Idempotency-Key": uuid.uuid4().hex}


def task_body(prompt: str) -> dict[str, Any]:
    return {"agent": AGENT, "input": {"message": prompt}}


async def submit(client: Client, prompt: str) -> str:
    """Submit a task; returns its id."""
    task: str = expect(await client.request("POST", "/api/v1/tasks/", task_body(prompt)), 202)["task"]
    return task


async def follow(client: Client, task: str, following: Following) -> None:
    """Take what comes of a task's events after the last one seen, until its end or that of the connection."""
    response = await client.request(
        "GET",
        f"/api/v1/tasks/{task}/events",
        headers={"Accept": "text/event-stream", "Last-Event-ID": str(following.last_number)},
        on_body=following.take,
    )
    if response.status != 200:
        raise UnexpectedAnswerError(f"status {response.status} for the events of {task}", status=response.status)


async def run_one(client: Client, prompt: str) -> Following:
    """The whole path of a task: submit it, follow its events, and check the answer that they make."""
    task = await submit(client, prompt)
    following = Following()
    await follow(client, task, following)
    check_answer(following, prompt)
    return following


def check_answer(following: Following, prompt: str) -> None:
    """Raises UnexpectedAnswerError where an event is missing or doubled, or the answer is not the server's."""
    if not (following.is_gapless and following.is_complete and following.text == expected_answer(prompt)):
        events = [(event.number, event.type, event.data[:80]) for event in following.events[-5:]]
        raise UnexpectedAnswerError(f"{prompt!r} ended with {events}")
