"""Look for secrets in the files that git tracks: `.venv/bin/python bin/secret_scan.py` in the project's folder.

What was looked at and is no secret stands in .secrets.baseline, with the reason: a string of the tests that has to
look like one. Line numbers do not count, so moving a line changes nothing.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from detect_secrets.core.potential_secret import PotentialSecret
from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import default_settings

BASELINE = Path(".secrets.baseline")
LOCKED = re.compile(r"^requirements(/\w+)?\.txt$")  # hashes, line after line
# Found by the words around them: a text of letters alone is a word or a name, as in "user:password@host".
BY_CONTEXT = {"Secret Keyword", "Basic Auth Credentials"}
# Found because they look random. Tests are full of digests and of made-up passwords: there, only the shape of a
# credential counts, as keys of clouds and services, private keys and tokens have one.
BY_LOOKS = {"Base64 High Entropy String", "Hex High Entropy String"}
WORDS = re.compile(r"[A-Za-z_ .,`]+")


def main() -> int:
    names = tracked()
    if not names:
        print("WARNING: git tracks nothing here, so no secrets were looked for.")
        return 0
    known = json.loads(BASELINE.read_text()) if BASELINE.exists() else {"results": {}}
    accepted = SecretsCollection.load_from_baseline(known)
    found = scan(names)
    for name, secret in found - accepted:
        print(
            f"{name}:{secret.line_number}: {secret.type}. Take it out, and make it worthless: git keeps it for ever."
        )
    for name, secret in accepted - found:
        print(
            f"{BASELINE}: {name} has no {secret.type} with the hash {secret.secret_hash} any more. Remove the entry."
        )
    baseless = [item for items in known["results"].values() for item in items if not item.get("why")]
    for item in baseless:
        print(f"{BASELINE}: say why {item['hashed_secret']} is no secret.")
    return int(bool([*(found - accepted), *(accepted - found), *baseless]))


def tracked() -> list[str]:
    """Name the files; none where there is no repository. Whose it is does not matter: nothing of it is run."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    names = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\0")
    return [name for name in names if name and name != str(BASELINE) and not LOCKED.match(name)]


def scan(names: list[str]) -> SecretsCollection:
    found = SecretsCollection()
    with default_settings():
        found.scan_files(*names)
    for name in found.files:
        found[name] = {secret for secret in found[name] if not is_made_up(name, secret)}
    return found


def is_made_up(name: str, secret: PotentialSecret) -> bool:
    if name.startswith("tests/"):
        return secret.type in BY_CONTEXT | BY_LOOKS
    return secret.type in BY_CONTEXT and WORDS.fullmatch(secret.secret_value or "") is not None


if __name__ == "__main__":
    sys.exit(main())
