from core.retries import full_jitter


def draws(failures: int) -> list[float]:
    return [full_jitter(failures, base_seconds=60, cap_seconds=3600) for _ in range(2000)]


def test_the_pause_is_random_and_doubles_up_to_a_limit():
    for failures, ceiling in ((1, 60), (2, 120), (3, 240), (6, 1920), (7, 3600), (60, 3600)):
        found = draws(failures)
        # Chance leaves the outer tenths empty once in 10 ** 91.
        assert 0 <= min(found) < ceiling / 10
        assert 0.9 * ceiling < max(found) <= ceiling
