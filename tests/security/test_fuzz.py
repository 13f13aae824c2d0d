"""Every operation of the document with inputs that nobody would think of, against the running program: no 500."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ollama_server import OllamaTestProcess
from tests.program import Program

EXAMPLES = 25  # for each operation and phase
CHECKS = "not_a_server_error,content_type_conformance,response_schema_conformance"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with (
        OllamaTestProcess("--model", "tinyllama") as ollama,
        Program(tmp_path_factory.mktemp("program"), OLLAMA_HOST=ollama.url) as running,
    ):
        yield running


def key_of(program: Program, name: str, role: str) -> str:
    """Make a person of a role, and a key for them."""
    make = f"from core.models import User; User.objects.create_user('{name}', role='{role}')"
    program.manage("shell", "--command", make)
    return program.manage("create_api_key", "--user", name)


@pytest.mark.parametrize("role", ["user", "operator"])
def test_no_input_breaks_the_server(program: Program, tmp_path: Path, role: str) -> None:
    key = key_of(program, f"fuzzing-{role}", role)
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{program.url}/api/schema/?format=json"),
        *("--header", f"Authorization: Bearer {key}", "--checks", CHECKS, "--phases", "examples,coverage,fuzzing"),
        *("--max-examples", str(EXAMPLES), "--seed", "7", "--generation-database", "none", "--request-timeout", "20"),
        "--no-color",
    ]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stdout[-6000:]
    assert "Internal Server Error" not in program.log.read_text()
