"""The two ways in which SQLite waits for the disk."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.durability.__main__ import ASK, NORMAL, WAYS
from tests.program import ROOT


@pytest.mark.parametrize(("way", "environment"), [("FULL", {}), ("NORMAL", {"PYTHONPATH": str(NORMAL)})])
def test_a_program_waits_for_the_disk_in_the_way_that_is_measured(way: str, environment: dict, tmp_path: Path):
    asked = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "--command", ASK],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "SUTAZAI_DATA_DIR": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout.strip() == WAYS[way]
