import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command

from core.management.commands import monitor as command
from core.ops import monitor
from core.ops.endpoints import Endpoint
from core.ops.monitor import Answer, Monitor, Part, Watched
from core.ops.probes import State
from tests.program import ROOT, Program
from tests.services.server import free_port


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with Program(tmp_path_factory.mktemp("program")) as program:
        yield program


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def asked_once(program: Program, *options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "monitor", "--once", *options],
        cwd=ROOT,
        env=program.environment | settings,
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_that_the_program_has_answers(program, tmp_path: Path):
    key = tmp_path / "key"
    key.write_text(program.manage("create_api_key", "--user", "operator"))
    ended = asked_once(program, "--json", SUTAZAI_MONITOR_KEY_FILE=str(key))
    told = json.loads(ended.stdout)
    assert {item["path"]: item["detail"] for item in told["endpoints"] if item["http_status"] != 200} == {}
    assert (told["healthy"], told["url"], ended.returncode) == (True, program.url, 0)
    assert told["not_asked"] == 0
    assert {"database", "broker", "workers"} <= {part["name"] for part in told["parts"]}


def test_it_draws_a_table_that_fits_80_columns_and_needs_no_terminal(program):
    ended = asked_once(program)
    assert ended.returncode == 0
    lines = ended.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert re.search(r" healthy \(\d of \d\d asked\)$", lines[0])
    assert next(line for line in lines if line.startswith("/login")).split()[1] == "up"
    assert "SUTAZAI_MONITOR_KEY" in ended.stdout
    assert "\x1b" not in ended.stdout


def test_it_ends_with_1_where_nothing_answers(capsys):
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("monitor", "--once", "--url", f"http://127.0.0.1:{free_port()}", stdout=out)
    assert ended.value.code == 1
    assert "UNHEALTHY" in out.getvalue()


def test_it_goes_on_until_it_is_told_to_stop(monkeypatch):
    class Terminal(io.StringIO):
        def write(self, text: str) -> int:
            if self.getvalue().count('"at"') == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().write(text)

    monkeypatch.setattr(monitor, "INTERVAL_SECONDS", 0.01)
    out = Terminal()
    with pytest.raises(SystemExit) as ended:  # of the last round
        call_command("monitor", "--json", "--url", f"http://127.0.0.1:{free_port()}", stdout=out)
    assert ended.value.code == 1
    rounds = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [len(told["endpoints"][0]["trend_seconds"]) for told in rounds] == [1, 2]


def drawn(answer: Answer, *parts: Part) -> list[str]:
    asked = Monitor([Endpoint("/health")], url="http://gpu.example")
    asked.watched[0].take(answer)
    asked.parts = list(parts)
    return command.lines(asked, command.LEVELS[1])


def test_what_a_server_says_cannot_colour_the_terminal():
    evil = Answer(State.DOWN, "302: It leads to '\x1b[31mx\n/health up'", 302, 0.1)
    told = drawn(evil, Part("x\x1b[2J", "up", "y" * 200, ""))
    assert not any("\x1b" in line or "\n" in line for line in told)
    assert max(map(len, told)) <= 80


def test_the_trend_rises_with_the_time_and_marks_failures():
    watched = Watched(Endpoint("/health"))
    for seconds in (0.001, 0.2, 4.0):
        watched.take(Answer(State.UP, "", 200, seconds))
    watched.take(Answer(State.DOWN, "gone"))
    assert command.trend(watched, "12345678") == "158x"
