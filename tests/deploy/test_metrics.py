"""Rules and boards name metrics that there are: those of a real program that was used a little."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from core.ops import metrics
from core.ops.alerts import rules
from tests.ollama_server import OllamaTestProcess
from tests.program import ROOT, Program, wait_for
from tests.services import SERVICE_VARIABLES

BOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
# No metrics of ours, but Prometheus's own: what fires, and who could be read.
PROMETHEUS = {"ALERTS", "up"}
FUNCTIONS = {"by", "count", "histogram_quantile", "increase", "max", "or", "rate", "sum", "topk", "vector"}
SAMPLES = ("_total", "_bucket", "_count", "_sum", "")


def expressions(board: Path) -> Iterator[str]:
    content = json.loads(board.read_text())
    return (target["expr"] for panel in content["panels"] for target in panel.get("targets", []))


def names(expression: str) -> set[str]:
    """The names of the metrics in an expression."""
    without_labels = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\bby \([^)]*\)", " ", expression)
    return set(re.findall(r"\b[A-Za-z_]\w*", without_labels)) - FUNCTIONS - PROMETHEUS


def families(text: str) -> set[str]:
    return {family.name for family in text_string_to_metric_families(text)}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the metrics that a program tells after a task, a page and a mistake.

    What is counted by labels has no series before its first event: of these the names in the code count as well.
    """
    with (
        OllamaTestProcess("--model", "tinyllama") as ollama,
        Program(tmp_path_factory.mktemp("program"), OLLAMA_HOST=ollama.url) as program,
    ):
        key = program.manage("create_api_key", "--user", "operator")
        headers = {"Authorization": f"Bearer {key}"}
        chat = requests.post(f"{program.url}/api/v1/chat/", json={"message": "hello"}, headers=headers, timeout=60)
        assert chat.status_code == 200, chat.text
        requests.get(f"{program.url}/api/v1/agents/", headers=headers, timeout=60)
        requests.get(f"{program.url}/api/v1/nonsense/", headers=headers, timeout=60)

        def now() -> set[str]:
            return families(requests.get(f"{program.url}/metrics", headers=headers, timeout=60).text)

        wait_for(lambda: "sutazai_health_up" in now(), "the process that watches has asked for /health")
        found = now()
    counters = (family for family in REGISTRY.collect() if family.type == "counter")
    labelled = {family.name for family in counters if all(sample.labels for sample in family.samples)}
    return found | labelled


@pytest.mark.django_db
@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_boards_do_not_add_up_what_each_host_reads_from_the_same_rows(board: Path) -> None:
    """What follows from rows is the same on every host: three hosts would show three times as many tasks."""
    rows = {family.name for reader in metrics._readers for family in reader()}
    summed = re.compile(r"\bsum(?: by \([^)]*\))? ?\((\w+)")
    added = {name for expression in expressions(board) for name in summed.findall(expression)}
    assert added
    assert added & rows == set()


def unknown(wanted: set[str], told: set[str]) -> set[str]:
    stems = {suffix: {name.removesuffix(suffix) for name in wanted if name.endswith(suffix)} for suffix in SAMPLES}
    known = {f"{stem}{suffix}" for suffix, found in stems.items() for stem in found if stem in told}
    return wanted - known


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_boards_name_metrics_that_there_are(board: Path, told: set[str]) -> None:
    wanted = {name for expression in expressions(board) for name in names(expression)}
    assert len(wanted) > 10
    assert unknown(wanted, told) == set()


def test_rules_name_metrics_that_there_are(told: set[str]) -> None:
    wanted = {metric.name for rule in rules.registered() for metric in rule.metrics()} - PROMETHEUS
    assert unknown(wanted, told) == set()


def test_a_metric_that_there_is_not_is_noticed(told: set[str]) -> None:
    assert unknown({"sutazai_kettles_total", "sutazai_workers"}, told) == {"sutazai_kettles_total"}


def test_boards_have_names_of_their_own_and_take_any_prometheus() -> None:
    boards = [json.loads(board.read_text()) for board in BOARDS]
    assert len({board["uid"] for board in boards}) == len(boards) == 2
    for board in boards:
        panels = [panel for panel in board["panels"] if panel["type"] != "row"]
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels)
        assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


@pytest.mark.promtool
@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_prometheus_understands_what_boards_ask(board: Path, tmp_path: Path) -> None:
    asked = [expression.replace("$__rate_interval", "5m") for expression in expressions(board)]
    recorded: list[dict[str, Any]] = [{"record": f"r{number}", "expr": expr} for number, expr in enumerate(asked)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "board", "rules": recorded}]}))  # which is YAML, too
    promtool = [os.environ[SERVICE_VARIABLES["promtool"]], "check", "rules", str(file)]
    result = subprocess.run(promtool, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
