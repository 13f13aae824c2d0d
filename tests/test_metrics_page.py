"""docs/metrics.md names what is told, with its labels, and nothing else."""

import re
from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from core.ops import metrics
from core.ops.alerts import figures
from sutazai import urls  # noqa: F401 - with the addresses comes all that counts anything
from tests.factories import make_node, make_task, make_user
from tests.program import ROOT

PAGE = ROOT / "docs" / "metrics.md"
OF_OTHERS = ("django_", "python_", "process_")
LINE = re.compile(r"^- `(\w+)`(?: \(((?:`\w+`(?:, )?)+)\))?: \S", re.MULTILINE)


def counted() -> Iterator[tuple[str, tuple[str, ...]]]:
    """What processes count: names as Prometheus reads them, and labels."""
    for collector in REGISTRY._collector_to_names:
        if isinstance(collector, MetricWrapperBase):
            for family in collector.describe():
                yield _name(family), tuple(collector._labelnames)


def read() -> Iterator[tuple[str, tuple[str, ...]]]:
    """What is looked up when Prometheus asks, or follows from what was counted."""
    totals = metrics.Totals(REGISTRY.collect())
    families = [family for reader in metrics._readers for family in reader()]
    families += [family for deriver in metrics._derivers for family in deriver(totals)]
    for family in families:
        yield _name(family), tuple(family._labelnames)  # type: ignore[attr-defined]  # of every family for readers


def _name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


@pytest.fixture
def told() -> dict[str, set[str]]:
    """The labels of all that a program can tell, by name."""
    make_node(models=("tiny:latest",))
    make_task(make_user())
    figures.ask_web()
    return {name: set(labels) for name, labels in [*counted(), *read()] if not name.startswith(OF_OTHERS)}


@pytest.mark.django_db
def test_the_page_of_metrics_names_all_of_them_with_their_labels(told: dict[str, set[str]]) -> None:
    lines = LINE.findall(PAGE.read_text())
    assert len(lines) == len({name for name, _ in lines}), "a metric stands there twice"
    assert {name: set(re.findall(r"\w+", labels)) for name, labels in lines} == told


@pytest.mark.django_db
def test_every_line_of_the_page_is_read(told: dict[str, set[str]]) -> None:
    text = PAGE.read_text()
    assert len(LINE.findall(text)) == len(re.findall(r"^- ", text, re.MULTILINE)) == len(told)
