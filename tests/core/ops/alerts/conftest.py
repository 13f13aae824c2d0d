from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from core.models import Alert
from core.ops.alerts import Rule, Unit, rules
from core.ops.alerts.expressions import Compared, Latest, Metric, Samples
from core.ops.alerts.watch import Watch


class Kettles:
    """A rule about kettles, which must not be hot for a minute, and a watch that knows no other."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)
        self.watch = Watch()
        self._at = 1000.0

    def say(self, seconds: float = 15, *, is_whole: bool = True, **degrees: float) -> None:
        """After so many seconds, have the kettles be that hot, by name. is_whole: all metrics could be read."""
        self._at += seconds
        self.now += timedelta(seconds=seconds)
        series = [("kettle_degrees", {"kettle": name, "pid": "1"}, value) for name, value in degrees.items()]
        self.watch.look(Samples(self._at, series), self.now, is_whole=is_whole)

    def set_clock(self, *, hours: float) -> None:
        self.now += timedelta(hours=hours)

    def heat(self, **degrees: float) -> None:
        """Have them be that hot for so long that it fires."""
        self.say(**degrees)
        self.say(60, **degrees)

    def cool(self) -> None:
        """Have all be cold for so long that nothing fires any more."""
        self.say(a=20, b=20)
        self.say(60, a=20, b=20)


KETTLE = Rule(
    name="KettleHot",
    title="The kettle {kettle} is hot",
    watches="How hot a kettle is.",
    condition=Compared(Latest(Metric("kettle_degrees"), by=("kettle",)), ">", 100),
    holds_for=timedelta(minutes=1),
    severity=Alert.Severity.WARNING,
    unit=Unit.COUNT,
    why="It boils dry.",
    help="Take it off.",
    page="admin:index",
)


@pytest.fixture
def kettles(monkeypatch: pytest.MonkeyPatch, fake_clock: Callable[[], None]) -> Kettles:
    monkeypatch.setattr(rules, "_rules", {KETTLE.name: KETTLE})
    return Kettles()
