import io
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.ops import supervisor
from core.ops.joint_log import JointLog, LineSplitter
from core.ops.processes import ProcessIdentity, is_alive
from core.ops.supervisor import Backoff

SLEEPS = "echo up; exec sleep 100"
IGNORES_STOPPING = "trap '' TERM; echo up; while true; do sleep 0.1; done"
# Its own child must go with it: a server's worker processes are such.
HAS_A_CHILD = "sleep 100 & echo child $!; wait"


class Group:
    """A supervisor in a process of its own, and what it logged so far."""

    def __init__(self, programs: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.core.ops.run_supervisor", json.dumps(programs)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))  # extend appends each line as it comes

    def count(self, text: str) -> int:
        return sum(text in line for line in list(self.lines))

    def has(self, text: str) -> bool:
        return self.count(text) > 0

    def child_pids(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def start_group(wait_until) -> Iterator[Callable[[dict[str, str]], Group]]:
    groups = []

    def start(programs: dict[str, str]) -> Group:
        group = Group(programs)
        groups.append(group)
        return group

    yield start
    for group in groups:
        group.end()


def test_a_program_that_dies_is_started_again_at_once(start_group, wait_until):
    group = start_group({"web": SLEEPS, "beat": SLEEPS})
    wait_until(lambda: group.has("web     | up") and group.has("beat    | up"))

    os.kill(group.child_pids()[0], signal.SIGKILL)

    wait_until(lambda: group.count("web     | up") == 2)
    assert group.has("web was killed by signal 9 (Killed); starting it again now")
    assert group.count("beat    | up") == 1


def test_a_program_that_keeps_ending_is_started_less_and_less_often(start_group, wait_until):
    group = start_group({"web": "exit 3"})

    wait_until(lambda: group.has("starting it again in 1 s"))
    endings = [line.strip() for line in group.lines if "ended" in line]
    assert endings[:3] == [
        "sutazai | web ended with exit code 3; starting it again now",
        "sutazai | web ended with exit code 3; starting it again in 0.5 s",
        "sutazai | web ended with exit code 3; starting it again in 1 s",
    ]


def test_a_program_that_does_not_exist_does_not_stop_the_others(start_group, wait_until):
    group = start_group({"web": "exec no-such-program", "beat": SLEEPS})

    wait_until(lambda: group.has("web ended with exit code 127") and group.has("beat    | up"))
    assert group.process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_ends_all_and_is_a_success(start_group, wait_until, number):
    group = start_group(
        {"web": "trap 'echo bye; exit' TERM; echo up; while true; do sleep 0.05; done", "beat": SLEEPS}
    )
    wait_until(lambda: group.has("web     | up") and group.has("beat    | up"))
    owners = [str(ProcessIdentity.of(pid)) for pid in group.child_pids()]

    group.process.send_signal(number)

    assert group.process.wait(20) == 0
    wait_until(lambda: group.has("Stopped."))
    assert group.has("web     | bye")
    assert not any(map(is_alive, owners))


def test_a_restart_replaces_every_process_once(start_group, wait_until):
    says_bye = "trap 'echo bye; exit' TERM; echo up; while true; do sleep 0.05; done"
    group = start_group({"web": SLEEPS, "beat": says_bye})
    wait_until(lambda: group.has("web     | up") and group.has("beat    | up"))
    before = set(group.child_pids())

    group.process.send_signal(signal.SIGUSR1)

    wait_until(lambda: group.count("beat    | up") == 2)
    assert group.has("beat    | bye")
    assert group.count("web     | up") == 1
    wait_until(lambda: group.count("web     | up") == 2)
    assert before.isdisjoint(group.child_pids())
    assert group.process.poll() is None


def test_a_program_that_replaces_its_own_processes_is_told_to(start_group, wait_until):
    script = "trap 'echo renewed' USR2; echo up; while true; do sleep 0.05; done"
    group = start_group({"web USR2": script})
    wait_until(lambda: group.has("| up"))
    before = group.child_pids()

    group.process.send_signal(signal.SIGUSR1)

    wait_until(lambda: group.has("| renewed"))
    assert group.child_pids()[0] == before[0]


def test_what_does_not_end_for_a_restart_is_killed(start_group, wait_until):
    group = start_group({"web": IGNORES_STOPPING})
    wait_until(lambda: group.has("web     | up"))

    group.process.send_signal(signal.SIGUSR1)

    wait_until(lambda: group.count("web     | up") == 2, timeout_seconds=3 * supervisor.STOP_TIMEOUT_SECONDS)
    assert group.has("web did not stop; killed")


def test_a_second_ctrl_c_ends_what_does_not_want_to_stop(start_group, wait_until):
    group = start_group({"web": IGNORES_STOPPING})
    wait_until(lambda: group.has("web     | up"))

    group.process.send_signal(signal.SIGINT)
    wait_until(lambda: group.has("Stopping"))
    time.sleep(supervisor.SECOND_SIGNAL_SECONDS)  # a signal that comes sooner is the same one, passed on by make
    group.process.send_signal(signal.SIGINT)

    assert group.process.wait(5) == 0
    wait_until(lambda: group.has("web did not stop; killed"))


def test_one_signal_that_comes_twice_stops_gently(start_group, wait_until):
    group = start_group({"web": "trap 'sleep 0.2; echo bye; exit' TERM; echo up; while true; do sleep 0.05; done"})
    wait_until(lambda: group.has("web     | up"))

    group.process.send_signal(signal.SIGINT)
    group.process.send_signal(signal.SIGINT)

    assert group.process.wait(20) == 0
    wait_until(lambda: group.has("web     | bye"))


def test_nothing_outlives_a_killed_supervisor(start_group, wait_until):
    group = start_group({"web": SLEEPS, "worker": IGNORES_STOPPING})
    wait_until(lambda: group.has("web     | up") and group.has("worker  | up"))
    owners = [str(ProcessIdentity.of(pid)) for pid in group.child_pids()]

    group.process.kill()

    assert len(owners) == 2
    wait_until(lambda: not any(map(is_alive, owners)))


def test_what_a_program_started_goes_with_it(start_group, wait_until):
    group = start_group({"web": HAS_A_CHILD})
    wait_until(lambda: group.has("child"))
    grandchild = str(ProcessIdentity.of(int(group.lines[-1].split()[-1])))

    os.kill(group.child_pids()[0], signal.SIGKILL)

    wait_until(lambda: not is_alive(grandchild))


def test_programs_stay_in_the_session_but_leave_the_foreground(start_group, wait_until):
    group = start_group({"web": SLEEPS})
    wait_until(lambda: group.has("web     | up"))
    [pid] = group.child_pids()

    assert os.getsid(pid) == os.getsid(group.process.pid)
    assert os.getpgid(pid) == pid


def test_it_says_when_the_group_is_ready(start_group, wait_until):
    group = start_group({"web": SLEEPS})

    wait_until(lambda: group.has("sutazai | All are running."))


def test_lines_of_several_programs_are_never_torn(start_group, wait_until):
    script = 'i=0; while [ $i -lt 300 ]; do printf "%s-" NAME; echo NAME; i=$((i+1)); done; exec sleep 100'
    group = start_group({name: script.replace("NAME", name) for name in ("one", "two")})

    wait_until(lambda: group.count("one-one") == 300 and group.count("two-two") == 300)
    assert {line for line in group.lines if "-" in line} == {"one     | one-one\n", "two     | two-two\n"}


def test_the_delay_doubles_up_to_a_limit_and_begins_anew_after_a_healthy_time():
    backoff = Backoff()

    delays = [backoff.delay_after(lived_seconds=1) for _ in range(9)]
    assert delays == [0, 0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.delay_after(lived_seconds=60) == 0
    assert backoff.delay_after(lived_seconds=1) == 0.5


def test_a_line_arrives_whole_however_the_pipe_cut_it():
    splitter = LineSplitter()
    text = b"first\nsecond \xc3\xa4\nlast"

    lines = list(itertools.chain.from_iterable(splitter.feed(bytes([byte])) for byte in text))
    assert lines == [b"first", b"second \xc3\xa4"]
    assert splitter.end() == [b"last"]
    assert splitter.end() == []


def test_the_log_never_waits_for_its_reader_and_counts_what_it_dropped(monkeypatch):
    monkeypatch.setattr("core.ops.joint_log.MAX_WAITING_LINES", 2)
    reader_is_back = threading.Event()

    class SlowReader(io.BytesIO):
        def write(self, line):
            reader_is_back.wait()
            return super().write(line)

    output = SlowReader()
    log = JointLog(output, ["web"], colour=False)
    for number in range(10):
        log.write("web", f"line {number}")
    reader_is_back.set()
    while b"dropped" not in output.getvalue():
        log.write("web", "later")
    log.close()

    lines = output.getvalue().splitlines()
    assert lines[0] == b"web | line 0"
    first_dropped = next(line for line in lines if b"dropped" in line)
    assert int(first_dropped.split(b"(")[1].split()[0]) >= 7


def test_names_are_coloured_for_people_only():
    output = io.BytesIO()
    log = JointLog(output, ["web", "worker"], colour=True)
    log.write("worker", "ready")
    log.close()

    assert output.getvalue() == b"\x1b[33mworker | \x1b[0mready\n"
