"""The classes of priority that calls wait in, through the real program in both lanes."""

import uuid

import pytest

CHAT = "/v1/chat/completions"
HEADER = "X-SutazAI-Priority"


def ask(gateway, headers):
    body = {"model": "double", "messages": [{"role": "user", "content": f"class {uuid.uuid4()}"}]}
    return gateway.ask("POST", CHAT, body, headers=headers)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({}, "interactive"), ({HEADER: "background"}, "background"), ({HEADER: "Normal"}, "normal")],
)
def test_calls_are_interactive_and_may_ask_to_wait_behind_others(gateway, headers, expected):
    answer = ask(gateway, headers)
    task = gateway.ask("GET", f"/api/v1/tasks/{answer.headers['X-SutazAI-Task']}").json()
    assert task["priority"] == expected
    assert float(answer.headers["X-SutazAI-Queue-Wait"]) >= 0


@pytest.mark.parametrize("name", ["front", "urgent", "1", ""])
def test_a_class_that_calls_cannot_ask_for_is_refused(gateway, name):
    answer = ask(gateway, {HEADER: name})
    assert answer.status_code == 422
    assert HEADER.lower() in answer.text.lower()
