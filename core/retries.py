"""How long to wait before something is tried again."""

import random


def full_jitter(failures: int, *, base_seconds: float, cap_seconds: float) -> float:
    """Seconds until the next try: by chance, below a limit that doubles with each failure after the first.

    What failed together does not come back together. See AWS, "Exponential backoff and jitter".
    """
    ceiling = min(cap_seconds, base_seconds * 2 ** (failures - 1))
    return random.uniform(0, ceiling)  # noqa: S311 - spreads load, guards nothing
