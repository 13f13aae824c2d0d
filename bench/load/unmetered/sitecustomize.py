"""The same program, but that nothing is counted: Python runs this first where PYTHONPATH names its folder.

For `bench.load.metrics_cost` alone. What leads up to counting stays: looking at the clock, finding the labels.
"""

from typing import Any

from prometheus_client import metrics, values


class _Nothing:
    """The value of a metric that never changes."""

    _multiprocess = False

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def inc(self, amount: float, *_: Any) -> None:
        pass

    set = inc

    def get(self) -> float:
        return 0.0

    def set_exemplar(self, _: Any) -> None:
        pass

    def get_exemplar(self) -> None:
        return None


values.ValueClass = _Nothing


def _nothing(*_: Any, **__: Any) -> None:
    pass


for _metric, _words in (
    (metrics.Counter, ("inc",)),
    (metrics.Gauge, ("inc", "dec", "set")),
    (metrics.Summary, ("observe",)),
    (metrics.Histogram, ("observe",)),
):
    for _word in _words:
        setattr(_metric, _word, _nothing)
