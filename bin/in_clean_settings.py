"""Run a command of manage.py with settings that nothing outside influences, writing into a folder that goes away.

`.venv/bin/python bin/in_clean_settings.py production manage.py check --deploy`
"""

import os
import secrets
import subprocess
import sys
import tempfile

SETTINGS = {
    "local": {},
    "production": {
        "SUTAZAI_ALLOWED_HOSTS": "sutazai.example",
        "SUTAZAI_SECRET_KEY": secrets.token_urlsafe(64),
        "SUTAZAI_API_KEY_PEPPER": secrets.token_urlsafe(64),
        "SUTAZAI_AUDIT_KEY": secrets.token_urlsafe(64),
        "SUTAZAI_AUDIT_SIGNING_KEY": secrets.token_urlsafe(64),
        "SUTAZAI_ENCRYPTION_KEYS": secrets.token_urlsafe(64),
    },
}


def main(environment_name: str, *command: str) -> int:
    with tempfile.TemporaryDirectory(prefix="sutazai-") as folder:
        environment = {
            "PATH": os.environ["PATH"],
            "SUTAZAI_ENV": environment_name,
            "SUTAZAI_DATA_DIR": folder,
            **SETTINGS[environment_name],
        }
        return subprocess.run([sys.executable, *command], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
