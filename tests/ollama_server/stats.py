"""What the server counts, so that tests can tell what reached it."""

from collections import Counter


class Stats:
    """started and finished count executions per prompt; aborted are requests whose client went away.

    traceparents: what requests said of the trace that they belong to, in order.
    """

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.in_flight = 0
        self.in_flight_peak = 0
        self.aborted = 0
        self.traceparents: list[str] = []
        self._started: Counter[str] = Counter()
        self._finished: Counter[str] = Counter()

    def started(self, prompt: str) -> None:
        self._started[prompt] += 1

    def finished(self, prompt: str) -> None:
        self._finished[prompt] += 1

    def enter(self, path: str, traceparent: str | None = None) -> None:
        self.requests[path] += 1
        if traceparent is not None:
            self.traceparents.append(traceparent)
        self.in_flight += 1
        self.in_flight_peak = max(self.in_flight_peak, self.in_flight)

    def leave(self) -> None:
        self.in_flight -= 1

    def reset(self) -> None:
        """Forget the past; what is in flight stays."""
        self.requests.clear()
        self._started.clear()
        self._finished.clear()
        self.traceparents.clear()
        self.aborted = 0
        self.in_flight_peak = self.in_flight

    def as_dict(self) -> dict[str, object]:
        return {
            "requests": self.requests.total(),
            "requests_by_path": dict(self.requests),
            "in_flight": self.in_flight,
            "in_flight_peak": self.in_flight_peak,
            "aborted": self.aborted,
            "traceparents": self.traceparents,
            "prompts_started": dict(self._started),
            "prompts_finished": dict(self._finished),
        }
