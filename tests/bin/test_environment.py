"""What `make` fills .venv with, in a project of its own whose one requirement is a wheel on disk."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.program import ROOT


class Project:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.script = root / "bin" / "environment.py"
        self.script.parent.mkdir()
        self.script.write_bytes((ROOT / "bin" / "environment.py").read_bytes())
        self.python = root / ".venv" / "bin" / "python"

    def require(self, version: str, *, digest: str = "") -> None:
        wheel = self.root / f"greeting-{version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            folder = f"greeting-{version}.dist-info"
            archive.writestr("greeting.py", f"VERSION = {version!r}\n")
            archive.writestr(f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: greeting\nVersion: {version}\n")
            archive.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{folder}/RECORD", "")
        digest = digest or hashlib.sha256(wheel.read_bytes()).hexdigest()
        (self.root / "requirements.txt").write_text(f"greeting @ {wheel.as_uri()} --hash=sha256:{digest}\n")

    def fill(self) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, self.script, "requirements.txt"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def installed(self) -> str:
        command = [self.python, "-c", "import greeting; print(greeting.VERSION)"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.require("1.0")
    return project


def test_what_is_required_is_installed_once(project):
    first = project.fill()
    assert first.returncode == 0, first.stderr
    assert "Installing requirements.txt" in first.stdout
    assert project.installed() == "1.0"

    again = project.fill()
    assert (again.returncode, again.stdout) == (0, "")

    project.require("2.0")
    assert project.fill().returncode == 0
    assert project.installed() == "2.0"


def test_what_does_not_match_its_hash_is_not_installed(project):
    project.require("1.0", digest="0" * 64)
    refused = project.fill()
    assert refused.returncode != 0
    assert "could not be installed" in refused.stderr
    assert project.installed() == ""

    project.require("1.0")
    assert project.fill().returncode == 0  # the failure left nothing that passes for done
    assert project.installed() == "1.0"


def test_an_environment_whose_python_is_gone_is_made_again(project):
    project.fill()
    project.python.unlink()
    assert project.fill().returncode == 0
    assert project.installed() == "1.0"
