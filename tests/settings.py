"""The product's settings, whose folder for everything that is written goes away after the tests.

Processes that tests start inherit the folder through the environment.
"""

import atexit
import os
import shutil
import tempfile

if "SUTAZAI_DATA_DIR" not in os.environ:
    os.environ["SUTAZAI_DATA_DIR"] = tempfile.mkdtemp(prefix="sutazai-tests-")
    atexit.register(shutil.rmtree, os.environ["SUTAZAI_DATA_DIR"], ignore_errors=True)

from sutazai.settings import *  # noqa: F403

# The real hash costs 50 ms for every user that a test makes.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
