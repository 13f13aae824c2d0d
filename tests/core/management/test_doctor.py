import io
import json

import pytest
from django.core.management import call_command

from core.ops import doctor
from core.ops.doctor import Report


@pytest.fixture
def finding(monkeypatch):
    """Have the doctor find what a test says."""

    def find(*diagnoses: doctor.Diagnosis) -> None:
        monkeypatch.setattr(doctor, "examine", lambda: [Report("disk", diagnosis) for diagnosis in diagnoses])

    return find


def run(*options: str) -> tuple[str, int]:
    """Run the command; returns what it printed and how it ended."""
    out = io.StringIO()
    try:
        call_command("doctor", *options, stdout=out)
    except SystemExit as ended:
        return out.getvalue(), int(ended.code or 0)
    return out.getvalue(), 0


def test_what_is_wrong_is_told_with_how_to_mend_it_within_80_columns(finding):
    finding(doctor.ok("Fine."), doctor.warning("Slow. " * 30, "Wait. " * 30), doctor.error("Full.", "Make room."))
    text, code = run()
    assert code == 1
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["disk", "ok", "Fine."]
    assert lines[-3].split() == ["->", "Make", "room."]
    assert lines[-1] == "1 to mend, 1 doubtful, 1 well."


def test_what_is_only_doubtful_ends_well(finding):
    finding(doctor.warning("Slow.", "Wait."))
    text, code = run("--json")
    assert code == 0
    found = [{"area": "disk", "verdict": "warning", "text": "Slow.", "mend": "Wait."}]
    assert json.loads(text) == {"healthy": True, "found": found}


def test_no_secret_and_no_control_character_is_printed(finding):
    finding(doctor.error("redis://user:hunter2hunter2@cache \x1b[31m", "Mend \x1b it."))
    for text in (run()[0], run("--json")[0]):
        assert "hunter2" not in text
        assert "\x1b" not in text


@pytest.mark.django_db
@pytest.mark.both_databases
def test_it_looks_at_everything():
    told = json.loads(run("--json")[0])
    assert {item["area"] for item in told["found"]} >= {
        *("database", "broker", "disk", "workers", "models", "settings", "versions", "database version"),
        *("secrets", "stored secrets", "files", "clock", "migrations", "schedules", "web", "nodes"),
    }
    assert all(item["mend"] for item in told["found"] if item["verdict"] != "ok")
