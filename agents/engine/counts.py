"""What the engine counts of its own troubles, for all processes of the group (see `core.ops.metrics`)."""

from prometheus_client import Counter

# Errors of runs that waited in vain.
TIMEOUT_CODES = frozenset({"deadline-passed", "first-byte-timeout", "gap-timeout"})

timeouts = Counter("sutazai_timeouts", "Runs that waited in vain, also those that were tried again.", ["error_code"])
leases_lost = Counter("sutazai_leases_lost", "Runs that stopped because their lease was not theirs any more.")
model_swaps = Counter("sutazai_model_swaps", "Models that had to make room in a node for another.", ["model"])
_reaped = Counter("sutazai_reaper_actions", "Tasks that the caretaker had to do something about.", ["action"])

freed = _reaped.labels("freed-of-a-dead-process")
taken_away = _reaped.labels("taken-from-a-silent-runner")
given_back = _reaped.labels("given-back-by-its-runner")
announced_again = _reaped.labels("announced-again")
renewed = _reaped.labels("renewed-unclaimed")
expired = _reaped.labels("ended-at-its-deadline")
