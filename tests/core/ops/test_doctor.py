import pytest
from django.db import OperationalError

from core.ops import doctor, probes
from core.ops.doctor import Verdict
from core.ops.probes import UP, Finding, State


def examined(monkeypatch, **parts):
    monkeypatch.setattr(probes, "_probes", {name: (lambda found=found: found) for name, found in parts.items()})
    return {report.area: report.diagnosis for report in doctor.examine()}


@pytest.fixture(autouse=True)
def only_ours(monkeypatch):
    """What is examined is what a test registers."""
    monkeypatch.setattr(doctor, "autodiscover_modules", lambda _: None)
    monkeypatch.setattr(doctor, "_examinations", {})
    monkeypatch.setattr(doctor, "_remedies", {})


def test_each_part_is_told_with_what_to_do(monkeypatch):
    doctor.remedy("disk", "Make room.")
    found = examined(
        monkeypatch, database=UP, disk=Finding(State.DEGRADED, "Full."), models=Finding(State.DOWN, "None.")
    )
    assert found["database"].verdict == Verdict.OK
    assert found["disk"] == doctor.warning("Full.", "Make room.")
    assert found["models"] == doctor.error("None.", "")


def test_what_needs_the_database_is_left_out_while_it_is_down(monkeypatch):
    doctor.examination("rows", needs_database=True)(lambda: [doctor.ok("Fine.")])
    doctor.examination("files")(lambda: [doctor.ok("Fine.")])
    assert set(examined(monkeypatch, database=Finding(State.DOWN))) == {"database", "files"}
    assert set(examined(monkeypatch, database=UP)) == {"database", "rows", "files"}


@pytest.mark.parametrize("failure", [OperationalError("locked"), PermissionError("no"), KeyError("odd")])
def test_an_examination_that_fails_is_an_error_and_no_end(monkeypatch, failure):
    def fails():
        yield doctor.ok("The first half.")
        raise failure

    doctor.examination("rows")(fails)
    doctor.examination("files")(lambda: [doctor.ok("Fine.")])
    found = examined(monkeypatch, database=UP)
    assert found["rows"].verdict == Verdict.ERROR
    assert str(failure) in found["rows"].text
    assert found["rows"].mend
    assert found["files"].verdict == Verdict.OK
