import pytest
from django.db import OperationalError

from core.ops import threads


class Fatal(BaseException):
    """Ends even such a thread, so that the test does."""


@pytest.mark.parametrize("error", [OperationalError("locked"), OSError("no descriptors"), LookupError("anything")])
def test_an_error_costs_a_round_and_not_the_thread(monkeypatch, caplog, error):
    monkeypatch.setattr(threads, "PAUSE_SECONDS", 0)
    rounds = iter([error, None, error, Fatal()])

    def work() -> None:
        outcome = next(rounds)
        if outcome is not None:
            raise outcome

    with pytest.raises(Fatal):
        threads._run("patient", work)
    assert [record.message.startswith("patient skips a round") for record in caplog.records] == [True, True]
