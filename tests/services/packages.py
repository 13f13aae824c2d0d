"""Finds the programs of the servers; installs Debian's packages where that is possible and permitted."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# What proves that a package is here, as a glob below /; and the package.
PROOFS = {
    "usr/lib/postgresql/*/bin/postgres": "postgresql",
    "usr/bin/redis-server": "redis-server",
    "usr/lib/rabbitmq/bin/rabbitmq-server": "rabbitmq-server",
    "usr/bin/chromium": "chromium",
    "usr/bin/promtool": "prometheus",
}
POLICY = Path("/usr/sbin/policy-rc.d")


def ensure_packages(proofs: Mapping[str, str] | None = None) -> None:
    """Install what is missing of `PROOFS`, or of others.

    Raises SystemExit, with one line that names it, where that is not possible.
    """
    missing = missing_packages(PROOFS if proofs is None else proofs)
    if not missing:
        return
    command = "apt-get install --no-install-recommends " + " ".join(missing)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(f"The tests need packages that are missing. On Debian: {command}")
    print(f"Installing {', '.join(missing)} …", file=sys.stderr, flush=True)
    try:
        _install(missing)
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error.output}\nThe tests need packages that could not be installed: {command}")


def missing_packages(proofs: Mapping[str, str]) -> list[str]:
    return [package for proof, package in proofs.items() if not any(Path("/").glob(proof))]


def program(proof: str) -> Path:
    """Return the newest program, or library, that matches a key of such proofs."""
    return max(Path("/").glob(proof))


def _install(packages: list[str]) -> None:
    """Install without starting a server of the system, which would outlive the tests."""
    is_our_policy = not POLICY.exists()
    if is_our_policy:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        _apt_get("update")
        _apt_get("install", "--yes", "--no-install-recommends", *packages)
    finally:
        if is_our_policy:
            POLICY.unlink()


def _apt_get(*arguments: str) -> None:
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    subprocess.run(
        ["apt-get", "--quiet", *arguments],
        check=True,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
