import os
import subprocess

import pytest

from core.ops import metrics_files


def test_only_the_dead_are_forgotten(tmp_path):
    with subprocess.Popen(["true"]) as process:
        pass
    dead, alive = process.pid, os.getpid()
    for name in ("gauge_livesum", "counter"):
        for pid in (dead, alive):
            (tmp_path / f"{name}_{pid}.db").touch()

    metrics_files.forget_the_dead(tmp_path)

    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"gauge_livesum_{alive}.db", f"counter_{dead}.db", f"counter_{alive}.db"}


def test_what_another_process_forgot_is_no_failure(tmp_path, monkeypatch):
    def forget(pid, folder):
        raise FileNotFoundError

    with subprocess.Popen(["true"]) as process:
        pass
    (tmp_path / f"gauge_livesum_{process.pid}.db").touch()
    monkeypatch.setattr(metrics_files.multiprocess, "mark_process_dead", forget)
    metrics_files.forget_the_dead(tmp_path)


@pytest.mark.parametrize("has_memory", [True, False])
def test_a_start_counts_anew(tmp_path, monkeypatch, has_memory):
    data, memory = tmp_path / "data", tmp_path / "memory"
    monkeypatch.setattr(metrics_files, "MEMORY", memory)
    data.mkdir()
    if has_memory:
        memory.mkdir()
    folder = metrics_files.start_anew(data)
    assert folder.is_relative_to(memory if has_memory else data)
    (folder / "counter_1.db").touch()

    assert metrics_files.start_anew(data) == folder
    assert list(folder.iterdir()) == []
    assert folder.stat().st_mode & 0o77 == 0

    metrics_files.end(folder)
    assert not folder.exists()


def test_each_installation_has_a_folder_of_its_own(tmp_path):
    one, two = (metrics_files.start_anew(tmp_path / name) for name in ("one", "two"))
    assert one != two
    metrics_files.end(one)
    metrics_files.end(two)
