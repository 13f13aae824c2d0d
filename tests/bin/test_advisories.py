"""What is made of the answers of advisory services, given by a stand-in for pip-audit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.program import ROOT

HOLD = {"name": "sound", "version": "1.0", "vulns": []}
HOLE = {
    "name": "leaky",
    "version": "2.0",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-2030-1"], "fix_versions": ["2.1"], "description": ""}],
}
UNKNOWN = {"name": "strange", "skip_reason": "Dependency not found: strange (3.0)"}


@pytest.fixture
def check(tmp_path: Path):
    """Run the check; answers: for each service that is asked, what it says: packages, or nothing."""

    def run(*answers: list[dict] | None) -> subprocess.CompletedProcess[str]:
        (tmp_path / "answers").write_text(
            json.dumps([{"dependencies": found} if found else None for found in answers])
        )
        (tmp_path / "pip_audit.py").write_text(
            "import json, sys\n"
            f"answers = json.load(open({str(tmp_path / 'answers')!r}))\n"
            "answer = answers['--vulnerability-service' in sys.argv]\n"
            "sys.exit('Nobody answers.') if answer is None else print(json.dumps(answer))\n"
        )
        command = [sys.executable, ROOT / "bin" / "advisories.py", "requirements.txt"]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


def test_without_a_known_vulnerability_it_passes(check):
    done = check([HOLD])
    assert (done.returncode, done.stdout) == (0, "1 requirements were looked up; 0 known vulnerabilities count.\n")


def test_a_known_vulnerability_fails_and_is_named_with_the_version_that_mends_it(check):
    done = check([HOLD, HOLE, UNKNOWN])
    assert done.returncode == 1
    assert "leaky 2.0: CVE-2030-1 PYSEC-1 (mended in 2.1)" in done.stdout
    assert "WARNING: not looked up: Dependency not found: strange (3.0)" in done.stdout


def test_where_one_service_knows_nothing_the_other_is_asked(check):
    assert check([UNKNOWN], [HOLE]).returncode == 1
    assert check(None, [HOLE]).returncode == 1


def test_where_nobody_can_be_asked_it_says_so_and_passes(check):
    done = check([UNKNOWN], None)
    assert done.returncode == 0
    assert "WARNING: no advisory service could be reached" in done.stdout
    assert "Nobody answers." in done.stdout
