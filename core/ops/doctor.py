"""What is wrong with this installation, and how to mend it: `manage.py doctor`.

An examination looks at one area and tells what it finds. Core's own stand in `core.examinations`; other applications
register theirs in a module of that name.
"""

import enum
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from django.db import DatabaseError, InterfaceError
from django.utils.module_loading import autodiscover_modules

from core.logs import one_line
from core.ops.health import Health, Service
from core.ops.probes import State


class Verdict(enum.StrEnum):
    OK = "ok"
    WARNING = "warning"  # it works, but not as it should
    ERROR = "error"


@dataclass(frozen=True)
class Diagnosis:
    """What was found. mend: what to do about it, unless it is well."""

    verdict: Verdict
    text: str
    mend: str = ""


@dataclass(frozen=True)
class Report:
    """What an examination found, and of which area."""

    area: str
    diagnosis: Diagnosis


@dataclass(frozen=True)
class Remedy:
    """What to do about a part, and the name of the console's page that helps."""

    text: str = ""
    page: str = ""


logger = logging.getLogger(__name__)

Examination = Callable[[], Iterable[Diagnosis]]

DATABASE = "database"
_VERDICTS = {State.UP: Verdict.OK, State.DEGRADED: Verdict.WARNING}
_examinations: dict[str, tuple[Examination, bool]] = {}
_remedies: dict[str, Remedy] = {}


def ok(text: str) -> Diagnosis:
    return Diagnosis(Verdict.OK, text)


def warning(text: str, mend: str) -> Diagnosis:
    return Diagnosis(Verdict.WARNING, text, mend)


def error(text: str, mend: str) -> Diagnosis:
    return Diagnosis(Verdict.ERROR, text, mend)


def examination(area: str, *, needs_database: bool = False) -> Callable[[Examination], Examination]:
    """Register the decorated function. needs_database: it is left out while the database does not answer."""

    def register(function: Examination) -> Examination:
        _examinations[area] = function, needs_database
        return function

    return register


def remedy(part: str, text: str, *, page: str = "") -> None:
    """Say how to mend a part that `core.ops.probes` looks at. page: the name of the console's page that helps."""
    _remedies[part] = Remedy(text, page)


def remedy_of(part: str) -> Remedy:
    """How to mend a part."""
    autodiscover_modules("examinations")
    return _remedies.get(part, Remedy())


def examine() -> Iterator[Report]:
    """Look at everything, at the parts first: without its database there is little else to see."""
    autodiscover_modules("examinations")
    health = Health()
    health.look()
    services = health.services()
    for name, service in services.items():
        yield Report(name, _of_part(name, service))
    has_database = services[DATABASE].state != State.DOWN
    for area, (function, needs_database) in _examinations.items():
        if has_database or not needs_database:
            yield from (Report(area, diagnosis) for diagnosis in _found(function))


def _of_part(name: str, service: Service) -> Diagnosis:
    verdict = _VERDICTS.get(service.state, Verdict.ERROR)
    if verdict == Verdict.OK:
        return ok(service.detail or "It works.")
    return Diagnosis(verdict, service.detail, remedy_of(name).text)


def _found(function: Examination) -> list[Diagnosis]:
    try:
        return list(function())
    except (DatabaseError, InterfaceError) as failure:
        return [error(f"The database does not tell: {failure}", "Mend what is wrong with the database first.")]
    except OSError as failure:
        return [error(f"It cannot be looked at: {failure}", "Let the user who runs the program read it.")]
    except Exception as failure:  # what one examination did not expect keeps nobody from the others
        logger.exception("An examination broke.")
        reason = one_line(f"{type(failure).__name__}: {failure}")
        return [error(f"It cannot be looked at: {reason}", "Report it, with the trace in the log.")]
