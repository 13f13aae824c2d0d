import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.ops.processes import ProcessIdentity, is_alive, is_on_this_host, this_host


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_it_survives_being_written_and_read():
    identity = ProcessIdentity.current()

    assert ProcessIdentity.parse(str(identity)) == identity
    assert identity.pid == os.getpid()
    assert len(str(identity)) <= ProcessIdentity.MAX_LENGTH


def test_a_running_process_is_alive(child):
    assert is_alive(str(ProcessIdentity.of(child.pid)))


def test_a_killed_process_is_dead_before_and_after_it_is_collected(child):
    owner = str(ProcessIdentity.of(child.pid))

    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, still a zombie
    assert not is_alive(owner)
    child.wait()
    assert not is_alive(owner)


def test_a_later_process_with_the_same_id_is_another(child):
    identity = ProcessIdentity.of(child.pid)

    assert not is_alive(str(replace(identity, start=identity.start - 1)))


def test_a_process_elsewhere_is_not_judged(child):
    host_name, boot, namespace = this_host().split(":")
    identity = ProcessIdentity.of(child.pid)

    for elsewhere in (f"other:{boot}:{namespace}", f"{host_name}:00000000:{namespace}", f"{host_name}:{boot}:1"):
        owner = str(replace(identity, host=elsewhere))
        assert not is_on_this_host(owner)
        assert not is_alive(owner)
    assert is_on_this_host(str(identity))


@pytest.mark.parametrize("text", ["", "nonsense", "host/pid/start"])
def test_what_is_no_identity_is_neither_here_nor_alive(text):
    assert not is_on_this_host(text)
    assert not is_alive(text)


def test_a_missing_process_has_no_identity(child):
    child.kill()
    child.wait()

    with pytest.raises(ProcessLookupError):
        ProcessIdentity.of(child.pid)


PARENT_OF_A_TETHERED_CHILD = """
import subprocess, sys, time
from core.ops import tether
print(subprocess.Popen(tether.command("sleep", "60"), stdout=subprocess.DEVNULL).pid, flush=True)
time.sleep(60)
"""


def test_a_tethered_command_dies_with_its_parent(wait_until):
    with subprocess.Popen([sys.executable, "-c", PARENT_OF_A_TETHERED_CHILD], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
        owner = str(ProcessIdentity.of(pid))
        parent.kill()
    wait_until(lambda: not is_alive(owner))


def test_a_tethered_command_whose_parent_is_gone_already_dies_at_once():
    not_its_parent = os.getppid()
    command = [sys.executable, "-m", "core.ops.tether", str(not_its_parent), "sleep", "60"]

    assert subprocess.run(command, check=False, timeout=30).returncode == -signal.SIGKILL
