"""Managing models through the gateway with the official Ollama client, as the keys may that name the right to it."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import ollama
import psutil
import pytest
import requests

from tests.agents.gateway.conftest import Gateway
from tests.program import PATIENCE_SECONDS, wait_for

# Nothing of this depends on who runs tasks.
pytestmark = pytest.mark.parametrize("gateway", ["quick"], indirect=True, scope="module")

HELLO = [{"role": "user", "content": "hello there"}]
MIB = 2**20


@pytest.fixture(scope="module")
def key(gateway: Gateway) -> str:
    return gateway.program.manage("create_api_key", "--user", "operator", "--verbs", "models")


@pytest.fixture(scope="module")
def manager(gateway: Gateway, key: str) -> Iterator[ollama.Client]:
    headers = {"Authorization": f"Bearer {key}"}
    with ollama.Client(host=f"{gateway.program.url}/ollama", headers=headers, trust_env=False) as client:
        yield client


@pytest.fixture(autouse=True)
def as_before(gateway: Gateway) -> Iterator[None]:
    yield
    names = [name for name in installed(gateway) if name.partition(":")[0] not in {"double", "tinyllama", "embedder"}]
    gateway.server.control(reset=True, remove=names)


def installed(gateway: Gateway) -> set[str]:
    """What the node has, asked there."""
    return {
        row["name"]
        for row in requests.get(f"{gateway.server.url}/api/tags", timeout=PATIENCE_SECONDS).json()["models"]
    }


def audited(gateway: Gateway, action: str) -> list[dict]:
    """The audit log's entries of an action."""
    log = map(json.loads, gateway.program.manage("audit", "export").splitlines())
    return [entry for entry in log if entry.get("action") == action]


def test_a_pulled_model_answers_at_once_and_its_pull_is_in_the_audit_log(gateway, manager):
    steps = [step.status for step in manager.pull("pullable", stream=True)]
    assert (steps[0], steps[-2:]) == ("pulling manifest", ["writing manifest", "success"])
    assert any(step.startswith("pulling ") for step in steps[1:])
    assert "hello there" in gateway.ollama.chat("pullable", HELLO).message.content
    (entry,) = audited(gateway, "model.pulled")
    assert (entry["actor_name"], entry["object_name"], entry["detail"]) == ("operator", "ollama", "pullable")
    assert entry["credential"].startswith("api-key stz_")


def test_progress_has_its_figures_and_an_unstreamed_pull_only_its_end(gateway, manager):
    sizes = [(step.completed, step.total) for step in manager.pull("pullable", stream=True) if step.total]
    assert len(sizes) > 2
    assert sizes[-1][0] == sizes[-1][1]
    assert manager.pull("pullable").status == "success"


def test_case_28_a_model_that_the_registry_does_not_have(gateway, manager, key):
    with pytest.raises(ollama.ResponseError, match="file does not exist") as refused:
        manager.pull("absent")
    assert refused.value.status_code == 500
    stream = manager.pull("absent", stream=True)
    assert next(stream).status == "pulling manifest"
    with pytest.raises(ollama.ResponseError, match="file does not exist"):
        next(stream)
    response = gateway.ask("POST", "/ollama/api/pull", {"model": "absent"}, key=key)
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/x-ndjson")
    assert [list(line) for line in lines] == [["status"], ["error"]]


def failed_pulls(gateway: Gateway) -> list[str]:
    """The reasons in the audit log."""
    return [entry["detail"] for entry in audited(gateway, "model.not-pulled")]


def test_a_client_that_leaves_ends_the_pull(gateway, manager):
    gateway.server.control(faults=[{"knobs": "d60000", "path": "/api/pull"}])
    stream = manager.pull("pullable", stream=True)
    next(stream)
    assert gateway.server.stats()["in_flight"] == 1
    stream.close()
    gateway.server.wait_for(lambda stats: stats["in_flight"] == 0)
    assert gateway.server.stats()["aborted"] == 1
    assert "pullable:latest" not in installed(gateway)
    wait_for(lambda: any("interrupted" in reason for reason in failed_pulls(gateway)), "it is told")


def test_a_key_that_is_revoked_ends_its_pull(gateway):
    text = gateway.program.manage("create_api_key", "--user", "operator", "--name", "brief", "--verbs", "models")
    gateway.server.control(faults=[{"knobs": "d60000", "path": "/api/pull"}])
    headers = {"Authorization": f"Bearer {text}"}
    address = f"{gateway.program.url}/ollama/api/pull"
    with requests.post(
        address, json={"model": "pullable"}, headers=headers, stream=True, timeout=PATIENCE_SECONDS
    ) as response:
        lines = response.iter_lines()
        assert json.loads(next(lines))["status"] == "pulling manifest"
        revoke(gateway, text)
        assert "ended" in json.loads(next(line for line in lines if b"error" in line))["error"]
    gateway.server.wait_for(lambda stats: stats["in_flight"] == 0)


def revoke(gateway: Gateway, text: str) -> None:
    """Revoke a key, as its person does."""
    find = f"ApiKey.objects.filter(key_id={text.split('_')[1]!r})"
    imports = "from core.access import api_keys; from core.models import ApiKey"
    gateway.program.manage("shell", "--no-imports", "--command", f"{imports}; api_keys.revoke({find})")


def test_a_model_is_made_of_another_copied_and_removed(gateway, manager):
    steps = list(manager.create("brief", from_="double", system="Be brief.", stream=True))
    assert steps[-1].status == "success"
    assert gateway.ollama.chat("brief", HELLO).message.content
    assert manager.copy("brief", "short").status == "success"
    assert gateway.ollama.chat("short", HELLO).message.content
    assert manager.delete("short").status == "success"
    assert "short:latest" not in {model.model for model in gateway.ollama.list().models}
    with pytest.raises(ollama.ResponseError, match="not found") as refused:
        manager.delete("short")
    assert refused.value.status_code == 404
    assert [entry["detail"] for entry in audited(gateway, "model.created")] == ["brief"]
    assert [entry["detail"] for entry in audited(gateway, "model.copied")] == ["brief as short"]
    assert [entry["detail"] for entry in audited(gateway, "model.deleted")] == ["short"]


def test_a_model_is_pushed(gateway, manager):
    assert [step.status for step in manager.push("double", stream=True)][-1] == "success"
    assert manager.push("double").status == "success"
    assert [entry["detail"] for entry in audited(gateway, "model.pushed")] == ["double"] * 2


def test_a_file_goes_through_without_being_held_and_a_model_is_made_of_it(gateway, manager, tmp_path):
    file = tmp_path / "weights.gguf"
    with file.open("wb") as weights:
        for number in range(96):
            weights.write(number.to_bytes() * MIB)
    with Watched(gateway) as grown:
        digest = manager.create_blob(file)
    assert grown() < 32 * MIB
    manager.create("mine", files={"weights.gguf": digest})
    assert "mine:latest" in installed(gateway)
    manager.create_blob(file)  # which the node has by now
    assert [entry["detail"] for entry in audited(gateway, "model.uploaded")] == [digest]


class Watched:
    """Looks how much memory the web process takes meanwhile, beyond what it had."""

    def __init__(self, gateway: Gateway) -> None:
        self._process = psutil.Process(gateway.program.pids("web")[0])
        self._is_over = threading.Event()

    def __enter__(self) -> Callable[[], int]:
        self._before = self._most = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return lambda: self._most - self._before

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_over.wait(0.01):
            self._most = max(self._most, self._process.memory_info().rss)


def test_a_file_that_is_not_what_its_digest_says_is_refused_by_the_node(gateway, key):
    address, zeros = f"{gateway.program.url}/ollama/api/blobs/sha256:", "0" * 64
    headers = {"Authorization": f"Bearer {key}"}
    refused = requests.post(address + zeros, data=b"weights", headers=headers, timeout=PATIENCE_SECONDS)
    assert refused.status_code == 400
    assert "digest mismatch" in refused.json()["error"]
    assert requests.head(address + zeros, headers=headers, timeout=PATIENCE_SECONDS).status_code == 404
    for wrong in ("x", "../../etc/passwd", zeros[1:]):
        assert requests.post(
            address + wrong, data=b"weights", headers=headers, timeout=PATIENCE_SECONDS
        ).status_code in {400, 404}


def test_a_client_that_breaks_off_its_upload_leaves_nothing(gateway, key):
    def broken() -> Iterator[bytes]:
        yield b"x" * MIB
        raise ConnectionAbortedError

    headers = {"Authorization": f"Bearer {key}"}
    address = f"{gateway.program.url}/ollama/api/blobs/sha256:{'1' * 64}"
    with pytest.raises((ConnectionAbortedError, requests.RequestException)):
        requests.post(address, data=broken(), headers=headers, timeout=PATIENCE_SECONDS)
    gateway.server.wait_for(lambda stats: stats["in_flight"] == 0)
    assert requests.head(address, headers=headers, timeout=PATIENCE_SECONDS).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        ("pull", b"", (400, "missing request body")),
        ("pull", b"{bad", (400, "invalid JSON")),
        ("pull", {}, (400, "invalid model name")),
        ("pull", {"model": "two words"}, (400, "invalid model name")),
        ("pull", {"model": "agent:helper"}, (400, "invalid model name")),
        ("pull", {"model": "x" * 201}, (400, "invalid model name")),
        ("pull", {"model": 5}, (400, "model")),
        ("pull", {"model": "x", "insecure": "yes"}, (400, "insecure")),
        ("push", {}, (400, "model is required")),
        ("create", {"model": "x"}, (400, "neither 'from' or 'files' was specified")),
        ("create", {"model": "x", "from": ["y"]}, (400, "from")),
        ("create", {"from": "double"}, (400, "invalid model name")),
        ("copy", {"destination": "x"}, (400, 'source "" is invalid')),
        ("copy", {"source": "double"}, (400, 'destination "" is invalid')),
        ("copy", {"source": "absent", "destination": "x"}, (404, "not found")),
        ("delete", {}, (400, "model is required")),
        ("delete", {"model": "absent"}, (404, "not found")),
    ],
)
def test_bad_requests_change_nothing(gateway, key, path, body, answer):
    before = installed(gateway)
    method = "DELETE" if path == "delete" else "POST"
    response = gateway.ask(method, f"/ollama/api/{path}", body, key=key)
    status, text = answer
    assert response.status_code == status
    assert text in response.json()["error"]
    assert installed(gateway) == before


def test_a_node_is_named_and_another_name_is_refused(gateway, key):
    headers = {"Authorization": f"Bearer {key}", "X-SutazAI-Node": "ollama"}
    address = f"{gateway.program.url}/ollama/api/pull"
    pulled = requests.post(
        address, json={"model": "pullable", "stream": False}, headers=headers, timeout=PATIENCE_SECONDS
    )
    assert (pulled.json(), pulled.headers["X-SutazAI-Node"]) == ({"status": "success"}, "ollama")
    wrong = {**headers, "X-SutazAI-Node": "größer".encode()}
    refused = requests.post(address, json={"model": "pullable"}, headers=wrong, timeout=PATIENCE_SECONDS)
    assert refused.status_code == 400
    assert refused.json()["error"].endswith("The nodes are: ollama.")


def test_only_so_many_changes_go_on_at_once(gateway, manager, key):
    gateway.server.control(faults=[{"knobs": "d60000", "path": "/api/pull"}])
    with ExitStack() as pulls:
        for _ in range(16):
            stream = manager.pull("pullable", stream=True)
            next(stream)
            pulls.callback(stream.close)
        refused = gateway.ask("POST", "/ollama/api/pull", {"model": "pullable"}, key=key)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "30")
        assert "hello there" in gateway.ollama.chat("double", HELLO).message.content
    gateway.server.wait_for(lambda stats: stats["in_flight"] == 0)
    gateway.server.control(reset=True)

    def may_pull() -> bool:
        answer = gateway.ask("POST", "/ollama/api/pull", {"model": "pullable", "stream": False}, key=key)
        return answer.status_code != 503

    wait_for(may_pull, "another may be pulled")
