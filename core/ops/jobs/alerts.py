"""The alerts, looked at when somebody wants it, and seen to be looked at by themselves."""

from collections.abc import Mapping

from core.models import Alert
from core.ops import maintenance
from core.ops.alerts import rules, watch


class NobodyWatchesError(RuntimeError):
    """No process looks at what the alerts watch. Start a web process; `manage.py up` starts one."""


class LooksFailError(RuntimeError):
    """A process watches, and cannot finish looking. Its log tells why; mend that, or start it again."""


def _figures() -> Mapping[str, int]:
    firing = Alert.objects.firing()
    return {"rules": len(rules.registered()), "firing": firing.count(), "untold": firing.filter(told_at=None).count()}


def _would_look() -> str:
    names = [alert.title for alert in Alert.objects.firing().order_by("since")]
    firing = f" Now fires: {'; '.join(names)}." if names else " Now nothing fires."
    return f"It would look at {len(rules.registered())} rules.{firing}"


@maintenance.job("evaluate_alerts", "Look at what the alerts watch", figures=_figures, preview=_would_look)
def evaluate_alerts() -> str:
    """Look at once where this process watches; elsewhere see that another one does, and that its looks succeed."""
    if watch.look_now():
        return f"Looked at {len(rules.registered())} rules; {Alert.objects.firing().count()} alerts fire."
    watcher = watch.watcher()
    if watcher is None:
        raise NobodyWatchesError("No process watches: no web process runs, or it has hung for a minute.")
    who = f"The process {watcher.pid} on {watcher.machine}"
    if not watch.has_looked_lately():
        raise LooksFailError(
            f"{who} watches, and has finished no look for a minute, so that no alert fires or ends. Its log tells why"
            " in the lines “alerts skips a round”. Mend that, or start the group again."
        )
    return f"{who} watches {len(rules.registered())} rules, every {watch.INTERVAL_SECONDS:g} s."
