"""Fill .venv with exactly what requirements files name: `python3 bin/environment.py requirements.txt …`.

Quick when nothing changed. Needs neither ensurepip nor a pip inside .venv, which Debian's python3 cannot make: the pip
of the Python that runs this fills it from outside. Written for old Pythons too, so that they can be refused clearly.
"""

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

MIN_PYTHON = (3, 11)
MIN_PIP = (22, 3)  # the first with --python
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"


def main(requirement_files):
    if sys.version_info < MIN_PYTHON:
        sys.exit("Python 3.11 or later is needed; {} is {}.".format(sys.executable, sys.version.split()[0]))
    if not venv_works():
        make_venv()
    changed = [name for name in requirement_files if not is_installed(name)]
    if not changed:
        return
    print("Installing", " and ".join(changed), "into .venv …", flush=True)
    install(changed)
    for name in changed:
        stamp(name).write_text(fingerprint(name))


def venv_works():
    """Tell whether .venv has a Python that starts; it does not once the Python it came from was removed."""
    try:
        subprocess.run([VENV_PYTHON, "-c", ""], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def make_venv():
    print("Making .venv with", sys.executable, "…", flush=True)
    command = [sys.executable, "-m", "venv", "--without-pip", "--clear", VENV]
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit("Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv")


def install(requirement_files):
    arguments = ["install", "--quiet", "--require-hashes"]
    for name in requirement_files:
        arguments += ["-r", str(ROOT / name)]
    environment = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_ROOT_USER_ACTION="ignore", PIP_USER="0")
    result = subprocess.run([*find_pip(), *arguments], env=environment, check=False)
    if result.returncode != 0:
        sys.exit("The requirements could not be installed; pip's message above says why.")


def find_pip():
    """Return how to call a pip that installs into .venv."""
    if outer_pip_version() >= MIN_PIP:
        return [sys.executable, "-m", "pip", "--python", str(VENV_PYTHON)]
    if (
        importlib.util.find_spec("ensurepip")
        and subprocess.run([VENV_PYTHON, "-m", "ensurepip"], check=False, capture_output=True).returncode == 0
    ):
        return [str(VENV_PYTHON), "-m", "pip"]
    return sys.exit("pip is missing. On Debian and Ubuntu: apt-get install python3-pip")


def outer_pip_version():
    result = subprocess.run([sys.executable, "-m", "pip", "--version"], check=False, capture_output=True, text=True)
    if result.returncode != 0:
        return (0, 0)
    major, minor = result.stdout.split()[1].split(".")[:2]  # "pip 23.0.1 from …"
    return (int(major), int(minor))


def is_installed(name):
    return stamp(name).exists() and stamp(name).read_text() == fingerprint(name)


def stamp(name):
    return VENV / ".installed-{}".format(name.replace("/", "-"))


def fingerprint(name):
    return hashlib.sha256((ROOT / name).read_bytes()).hexdigest()


if __name__ == "__main__":
    main(sys.argv[1:])
