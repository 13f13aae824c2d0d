"""What the program is made of: locked, free to use, and listed."""

import json
import os
import re
import subprocess
from importlib.metadata import distributions, metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.program import ROOT

BENCH = "requirements/bench.txt"
FILES = ["requirements.txt", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("requirements/*.txt"))]
PERMISSIVE = re.compile(
    r"0?BSD\b|3-Clause BSD|New BSD|MIT\b|Apache\b|ISC\b|PSF|Python Software Foundation|Dual License$", re.IGNORECASE
)
# What asks for more than to be named, and why it may be used. All are used as they are published.
OTHERS = {
    "axe-playwright-python": "MIT; its metadata does not say so",
    "bidict": "MPL-2.0: in load by hand only",
    "certifi": "MPL-2.0: a list of certificates",
    "fido2": "BSD; a list of domains in it is MPL-2.0",
    "fqdn": "MPL-2.0: in checks only",
    "hypothesis": "MPL-2.0: in tests only",
    "pathspec": "MPL-2.0: in checks only",
    "psycopg": "LGPL-3.0: a library that anybody can replace",
    "psycopg-binary": "LGPL-3.0: as psycopg",
    "psycopg-pool": "LGPL-3.0: as psycopg",
    "python-crontab": "LGPL-3.0: as psycopg",
    "qrcode": "BSD; one of its labels says proprietary, its licence does not",
    "zope-event": "ZPL-2.1, as BSD with a clause on trademarks: in load by hand only",
    "zope-interface": "ZPL-2.1: as zope-event",
}


def requirements(file: str) -> list[tuple[Requirement, list[str]]]:
    """The requirements of a file with their hashes."""
    text = re.sub(r"\s*#.*", "", (ROOT / file).read_text()).replace("\\\n", " ")
    lines = [line.split(" --hash=") for line in text.splitlines() if line.strip()]
    return [(Requirement(first.strip()), [part.strip() for part in hashes]) for first, *hashes in lines]


def licences(name: str) -> set[str]:
    """What a package says of its licence: the newest way of saying it that it uses."""
    told = metadata(name)
    if expression := told.get("License-Expression"):
        return set(re.split(r"\s+(?:AND|OR)\s+|[()]+", expression)) - {""}
    labels = {label.rsplit(" :: ", 1)[-1] for label in told.get_all("Classifier", []) if label.startswith("License")}
    labels.discard("OSI Approved")  # the heading of those below it
    return labels or {(told.get("License") or "").split("\n")[0]}


@pytest.mark.parametrize("file", FILES)
def test_every_requirement_is_locked_to_what_was_published(file):
    found = requirements(file)
    assert len(found) > 10
    for requirement, hashes in found:
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
        assert requirement.url is None, requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in hashes), requirement


@pytest.mark.parametrize("file", FILES)
def test_every_requirement_is_free_to_use(file):
    wanted = [found.name for found, _ in requirements(file) if found.marker is None or found.marker.evaluate()]
    if file == BENCH and not any(distributions(name="locust")):
        pytest.skip("The packages that only `make locust` needs are not installed.")
    strict = {name: licences(name) for name in wanted if name not in OTHERS}
    assert {name: said for name, said in strict.items() if not all(map(PERMISSIVE.match, said))} == {}


def test_no_exception_is_kept_for_what_is_not_required():
    assert {found.name for file in FILES for found, _ in requirements(file)} >= OTHERS.keys()


def test_the_bill_of_materials_lists_every_requirement(tmp_path: Path):
    bill = tmp_path / "bill.json"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    subprocess.run(["make", "--silent", "sbom", f"SBOM={bill}"], cwd=ROOT, env=environment, check=True)
    document = json.loads(bill.read_text())
    assert (document["bomFormat"], document["metadata"]["component"]["name"]) == ("CycloneDX", "sutazai")
    listed = {(item["name"], item["version"]) for item in document["components"]}
    assert listed == {
        (found.name, str(found.specifier).removeprefix("==")) for found, _ in requirements("requirements.txt")
    }
    assert all(item["externalReferences"][0]["hashes"] for item in document["components"])
