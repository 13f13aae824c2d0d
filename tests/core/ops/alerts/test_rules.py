"""Each rule by what metrics say for minutes: as Prometheus finds it, and as our own watch does."""

import json
import os
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.urls import reverse

from core.models import Alert
from core.ops.alerts import prometheus, rules
from core.ops.alerts.expressions import Samples
from core.ops.alerts.watch import Watch
from tests.core.ops.alerts.cases import CASES, STEP_SECONDS, Case, Labels, series_of, values_of
from tests.program import ROOT
from tests.services import SERVICE_VARIABLES

FILE = ROOT / "deploy" / "prometheus" / "alerts.yml"
BEGIN = datetime(2030, 1, 1, tzinfo=UTC)


def steps(case: Case) -> list[list[tuple[str, dict[str, str], float]]]:
    """What each look finds."""
    parsed = [(*series_of(series), values_of(values)) for series, values in case.series.items()]
    return [
        [(name, labels, values[step]) for name, labels, values in parsed if step < len(values)]
        for step in range(max(case.firing) * 60 // STEP_SECONDS + 1)
    ]


@pytest.mark.django_db
@pytest.mark.both_databases
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_our_watch_finds_what_is_wrong(case: Case) -> None:
    watch = Watch()
    for step, found in enumerate(steps(case)):
        seconds = step * STEP_SECONDS
        watch.look(Samples(seconds, found), BEGIN + timedelta(seconds=seconds))
        minute, rest = divmod(seconds, 60)
        if not rest and minute in case.firing:
            firing = Alert.objects.firing().filter(name=case.alert).order_by("about")
            assert [alert.labels for alert in firing] == list(case.firing[minute]), f"after {minute} minutes"


@pytest.mark.promtool
def test_prometheus_finds_the_same(tmp_path: Path) -> None:
    tests = [
        {
            "name": f"{case.alert}: {case.what}",
            "interval": f"{STEP_SECONDS}s",
            "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
            "alert_rule_test": [
                {"eval_time": f"{minute}m", "alertname": case.alert, "exp_alerts": expected(case.alert, firing)}
                for minute, firing in case.firing.items()
            ],
        }
        for case in CASES
    ]
    cases = tmp_path / "cases.yml"
    content = {"rule_files": [str(FILE)], "evaluation_interval": f"{STEP_SECONDS}s", "tests": tests}
    cases.write_text(json.dumps(content))  # which is YAML, too
    assert promtool("test", "rules", str(cases)) == ""


def expected(name: str, firing: Sequence[Labels]) -> list[dict[str, Any]]:
    rule = rules.find(name)
    assert rule is not None
    return [
        {
            "exp_labels": {**labels, "severity": rule.severity.value},
            "exp_annotations": {
                "summary": rule.title_for(labels),
                "description": rule.why,
                "runbook": rule.help,
            },
        }
        for labels in firing
    ]


def promtool(*arguments: str) -> str:
    """What it complains of."""
    program = os.environ[SERVICE_VARIABLES["promtool"]]
    result = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    return "" if result.returncode == 0 else result.stdout + result.stderr


@pytest.mark.promtool
def test_prometheus_takes_the_example_of_its_configuration() -> None:
    assert promtool("check", "config", "--syntax-only", str(FILE.with_name("prometheus.yml"))) == ""


def test_the_committed_rules_are_those_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("prometheus_rules")
    assert capsys.readouterr().out == FILE.read_text(), "manage.py prometheus_rules > deploy/prometheus/alerts.yml"
    assert prometheus.text() == FILE.read_text()


def test_every_rule_has_cases_in_which_it_fires_and_in_which_it_does_not() -> None:
    for rule in rules.registered():
        found = [firing for case in CASES if case.alert == rule.name for firing in case.firing.values()]
        assert any(found), rule.name
        assert not all(found), rule.name


def test_every_rule_tells_what_to_do_and_where() -> None:
    handbook = (ROOT / "docs" / "handbook" / "alerts.md").read_text()
    for rule in rules.registered():
        assert reverse(rule.page).startswith("/admin/"), rule.name
        assert rule.why, rule.name
        assert len(rule.help) > 80, rule.name
        assert f"`{rule.name}`" in handbook
