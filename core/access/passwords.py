"""How passwords are hashed."""

from django.contrib.auth.hashers import Argon2PasswordHasher


class PasswordHasher(Argon2PasswordHasher):
    """Argon2id with 19 MiB and two passes: about 30 ms of a core for each try.

    Django's own 100 MiB let sixteen sign-ins at a time take 1.6 GiB. Hashes made with other costs are made anew at the
    next sign-in. Source: OWASP Password Storage Cheat Sheet.
    """

    memory_cost = 19 * 1024  # KiB
    time_cost = 2
    parallelism = 1
