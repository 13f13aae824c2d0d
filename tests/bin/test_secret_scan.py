"""Secrets in tracked files, in a repository of its own."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.program import ROOT

KEY = "AKIA" + "Z7QK3VDNU2XWLBTE"  # in one piece it would be found here
LINE = f"access = {KEY!r}\n"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    return tmp_path


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True)


def write(name: str, text: str) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(text)
    git("add", name)


def scan() -> tuple[int, str]:
    command = [sys.executable, ROOT / "bin" / "secret_scan.py"]
    # It ends helpers with SIGTERM, at which those that are measured would complain.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def accept(file: str, **more: str) -> None:
    entry = {
        "type": "AWS Access Key",
        "hashed_secret": hashlib.sha1(KEY.encode()).hexdigest(),
        "line_number": 7,
        **more,
    }
    write(".secrets.baseline", json.dumps({"results": {file: [entry]}}))


@pytest.mark.parametrize("file", ["settings.py", "tests/test_it.py", "README.md"])
def test_a_secret_is_named_wherever_it_is_tracked(repository, file):
    write(file, "# A comment.\n" + LINE)
    code, said = scan()
    assert code == 1
    assert said.startswith(f"{file}:2: AWS Access Key.")
    assert KEY not in said


def test_what_is_not_tracked_is_not_looked_at(repository):
    write("settings.py", "x = 1\n")
    Path("notes.txt").write_text(LINE)
    assert scan() == (0, "")


def test_passwords_that_are_words_and_those_of_tests_are_no_secrets(repository):
    write("settings.py", "password = 'wrong'\nurl = 'postgres://user:password@host'\n")
    write("tests/test_it.py", f"password = 'correct-horse-9'\ndigest = '{hashlib.sha256(b'1').hexdigest()}'\n")
    assert scan() == (0, "")
    write("settings.py", "password = 'correct-horse-9'\n")
    assert scan()[0] == 1


def test_what_the_baseline_accepts_passes_wherever_the_line_went(repository):
    write("tests/test_it.py", LINE)
    accept("tests/test_it.py", why="Nobody has it.")
    assert scan() == (0, "")
    write("settings.py", LINE)
    assert scan()[0] == 1


def test_the_baseline_holds_nothing_without_a_reason_and_nothing_that_has_gone(repository):
    write("tests/test_it.py", LINE)
    accept("tests/test_it.py")
    assert "say why" in scan()[1]
    accept("tests/test_it.py", why="Nobody has it.")
    write("tests/test_it.py", "x = 1\n")
    code, said = scan()
    assert code == 1
    assert "Remove the entry" in said


def test_without_a_repository_it_says_so_and_passes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said = scan()
    assert code == 0
    assert "WARNING: git tracks nothing here" in said
