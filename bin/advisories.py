"""Look up known vulnerabilities of the locked requirements: `.venv/bin/python bin/advisories.py requirements.txt`.

Ends with 1 when there is one: the services do not tell how bad it is, so each counts. When nobody can be asked, as in
a network without a way out, it says so and ends with 0: a check that could not be made is no failure of what it would
have checked.
"""

import json
import subprocess
import sys
from typing import Any

# Vulnerabilities that cannot be reached in this program and are not mended yet: id -> why it cannot.
ACCEPTED: dict[str, str] = {}
# Who is asked, in this order, until somebody answers; the first is pip-audit's own choice.
SERVICES: list[list[str]] = [[], ["--vulnerability-service", "osv"]]
REQUEST_SECONDS = 10
TOTAL_SECONDS = 300


def main(*requirement_files: str) -> int:
    reasons = []
    for service in SERVICES:
        packages, reason = ask(service, requirement_files)
        if any("vulns" in package for package in packages):
            return judge(packages)
        reasons.append(reason)
    print("WARNING: no advisory service could be reached, so known vulnerabilities were NOT looked up.")
    for reason in reasons:
        print(f"  {reason}")
    return 0


def ask(service: list[str], requirement_files: tuple[str, ...]) -> tuple[list[dict[str, Any]], str]:
    """Return what a service says of each package, or why it says nothing."""
    files = [part for name in requirement_files for part in ("--requirement", name)]
    options = ["--disable-pip", "--format", "json", "--progress-spinner", "off", "--timeout", str(REQUEST_SECONDS)]
    command = [sys.executable, "-m", "pip_audit", *files, *options, *service]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TOTAL_SECONDS)
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return [], f"It took longer than {TOTAL_SECONDS} seconds."
    except (ValueError, KeyError):
        return [], (done.stderr.strip().splitlines() or ["It said nothing."])[-1]
    return packages, next((package["skip_reason"] for package in packages if "skip_reason" in package), "")


def judge(packages: list[dict[str, Any]]) -> int:
    """Tell what is known; returns 1 if some of it counts."""
    counts = 0
    for package in packages:
        if reason := package.get("skip_reason"):
            print(f"WARNING: not looked up: {reason}")
        for found in package.get("vulns", []):
            names = {found["id"], *found.get("aliases", [])}
            accepted = next((ACCEPTED[name] for name in names if name in ACCEPTED), "")
            counts += not accepted
            mended = ", ".join(found.get("fix_versions", [])) or "no version yet"
            what = f"accepted: {accepted}" if accepted else f"mended in {mended}"
            print(f"{package['name']} {package['version']}: {' '.join(sorted(names))} ({what})")
    looked_up = sum("vulns" in package for package in packages)
    print(f"{looked_up} requirements were looked up; {counts} known vulnerabilities count.")
    return int(counts > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
