import os
import subprocess

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


def test_a_start_counts_anew(tmp_path):
    folder = tmp_path / "run" / "metrics"
    metrics_files.start_anew(folder)
    (folder / "counter_1.db").touch()

    metrics_files.start_anew(folder)

    assert list(folder.iterdir()) == []
