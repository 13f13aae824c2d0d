"""People who look, think and ask, and programs that submit work: scenarios for Locust, on any installation.

    KEY=$(.venv/bin/python manage.py create_api_key --user NAME)
    SUTAZAI_LOAD_KEY=$KEY make locust

Then choose on http://127.0.0.1:8089 how many there shall be. Every one of them really asks the models. Users here wait
for their answer before they go on, as people do, so a server that stalls is asked less: what it holds when nobody
waits for it is measured by `make bench-load`.
"""

import json
import os
import random
import time
import uuid
from typing import Any

from locust import HttpUser, between, constant_pacing, task
from locust.exception import StopUser

KEY = os.environ.get("SUTAZAI_LOAD_KEY", "")
FINISHED = {"succeeded", "failed", "cancelled", "expired"}
QUESTIONS = (
    "What is a node?",
    "How do I make an API key?",
    "What happens to a task when its worker dies?",
    "Why does my task wait?",
)
POLL_SECONDS = 1.0
PATIENCE_SECONDS = 120


class Somebody(HttpUser):
    """Whoever comes with a key."""

    abstract = True
    agents: list[str]

    def on_start(self) -> None:
        self.client.headers["Authorization"] = f"Bearer {KEY}"
        self.agents = [agent["name"] for agent in self.rows("/api/v1/agents/") if agent["kind"] == "chat"]
        if not self.agents:
            print("There is no chat agent, or SUTAZAI_LOAD_KEY names no key of this server.")
            raise StopUser

    def rows(self, path: str) -> list[dict[str, Any]]:
        """Ask for a list; one without rows that it should have is no answer."""
        with self.client.get(path, catch_response=True) as response:
            if response.status_code != 200 or "results" not in response.json():
                response.failure(f"status {response.status_code}")
                return []
            return list(response.json()["results"])

    def look_at(self, path: str, name: str, key: str) -> None:
        """Ask for one thing, and see that it is this one."""
        with self.client.get(path, name=name, catch_response=True) as response:
            if response.status_code != 200 or key not in response.text:
                response.failure(f"status {response.status_code}")


class Reader(Somebody):
    """Looks at lists, and opens what stands there."""

    weight = 6
    wait_time = between(2, 10)

    @task(4)
    def read_a_task(self) -> None:
        if tasks := self.rows("/api/v1/tasks/"):
            key = random.choice(tasks)["id"]
            self.look_at(f"/api/v1/tasks/{key}/", "/api/v1/tasks/[id]/", key)

    @task(3)
    def read_a_conversation(self) -> None:
        if sessions := self.rows("/api/v1/sessions/"):
            key = random.choice(sessions)["id"]
            self.look_at(f"/api/v1/sessions/{key}/messages/", "/api/v1/sessions/[id]/messages/", "results")

    @task(2)
    def look_at_agents(self) -> None:
        self.rows("/api/v1/agents/")

    @task(1)
    def look_at_limits(self) -> None:
        self.client.get("/api/v1/limits/")


class Asker(Somebody):
    """Chats, and reads the answer while it comes."""

    weight = 3
    wait_time = between(5, 30)

    @task
    def ask(self) -> None:
        body = {"agent": random.choice(self.agents), "message": random.choice(QUESTIONS), "stream": True}
        began = time.perf_counter()
        with self.client.post("/api/v1/chat/", json=body, stream=True, catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
                return
            ended = self._follow(response, began)
            if not ended:
                response.failure("the stream ended without an answer")

    def _follow(self, response: Any, began: float) -> bool:
        """Read events to the last; tells whether it was an answer. The first text counts as a request of its own."""
        event, has_text = "", False
        for line in response.iter_lines(decode_unicode=True):
            name, _, value = line.partition(": ")
            if name == "event":
                event = value
            elif name == "data" and event == "delta" and not has_text:
                has_text = True
                self.environment.events.request.fire(
                    request_type="SSE",
                    name="/api/v1/chat/ first text",
                    response_time=1000 * (time.perf_counter() - began),
                    response_length=len(value),
                    exception=None,
                    context={},
                )
            elif name == "data" and event == "done":
                return json.loads(value)["status"] == "succeeded"
        return False


class Program(Somebody):
    """Submits a task every ten seconds, with a key so that it is never done twice, and polls for its end."""

    weight = 1
    wait_time = constant_pacing(10)

    @task
    def submit(self) -> None:
        body = {"agent": random.choice(self.agents), "input": {"message": random.choice(QUESTIONS)}}
        key = {"Idempotency-Key": uuid.uuid4().hex}
        with self.client.post("/api/v1/tasks/", json=body, headers=key, catch_response=True) as response:
            if response.status_code != 202:
                response.failure(f"status {response.status_code}")
                return
            submitted = response.json()["task"]
        limit = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < limit:
            found = self.client.get(f"/api/v1/tasks/{submitted}/", name="/api/v1/tasks/[id]/")
            if not found.ok or found.json()["status"] in FINISHED:
                return
            time.sleep(POLL_SECONDS)
