"""Do the nodes suffice? `manage.py capacity --model tinyllama --per-minute 40 --wait-target 10`."""

import json
import math
from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from agents.engine import capacity
from agents.engine.capacity import MOST_SLOTS, Assumed, Measured, Plan
from agents.engine.queueing import P95, Service
from agents.models.node import canonical_model_name
from core import formats
from core.ops import clock

LONGEST_HOURS = 24 * 90


class Command(BaseCommand):
    help = (
        "Tell for each model how busy its slots are, how long tasks wait for one, and how many slots it takes so that "
        "95 % wait no longer than a target. Rates of arrival and service are measured from the tasks of late; options "
        "put others in their place, to see what would be."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--model", default="", metavar="NAME", help="This model alone.")
        parser.add_argument(
            "--hours", type=_hours, default=24.0, help="How far back to measure; 24 unless told otherwise."
        )
        parser.add_argument(
            "--per-minute", type=_not_negative, metavar="TASKS", help="Plan for so many tasks a minute, by chance."
        )
        parser.add_argument(
            "--service-seconds", type=_positive, metavar="MEAN", help="Plan for tasks that hold a slot so long."
        )
        parser.add_argument(
            "--deviation-seconds",
            type=_not_negative,
            metavar="SD",
            help="Their standard deviation; as long as the mean unless told otherwise (exponential times).",
        )
        parser.add_argument("--slots", type=_slots, metavar="N", help="Plan for so many slots.")
        parser.add_argument(
            "--wait-target",
            type=_not_negative,
            metavar="SECONDS",
            help="How long 95 %% of the tasks may wait; SUTAZAI_QUEUE_WAIT_TARGET_SECONDS unless told otherwise.",
        )
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        assumed = _assumed(options)
        model = canonical_model_name(options["model"])
        if not model and assumed != Assumed():
            raise CommandError("Name the model with --model: what is assumed is assumed of one model.")
        target = settings.QUEUE_WAIT_TARGET_SECONDS if options["wait_target"] is None else options["wait_target"]
        now = clock.now()
        measured = capacity.measure(now - timedelta(hours=options["hours"]), now, model=model)
        planned = [(known, _plan(known, target, assumed)) for known in measured]
        if options["json"]:
            told = {"hours": options["hours"], "models": [_as_dict(known, plan) for known, plan in planned]}
            self.stdout.write(json.dumps(told))
        else:
            self.stdout.write("\n".join([line for known, plan in planned for line in _lines(known, plan, options)]))
        if not any(plan for _, plan in planned):
            raise CommandError(
                f"No task of {model or 'any model'} ended within the last {options['hours']:g} hours, so nobody "
                "knows how long one takes. Look further back with --hours, or name a model and say it with "
                "--service-seconds."
            )


def _assumed(options: dict[str, Any]) -> Assumed:
    mean, deviation, per_minute = (options[name] for name in ("service_seconds", "deviation_seconds", "per_minute"))
    if mean is None and deviation is not None:
        raise CommandError("--deviation-seconds goes with --service-seconds.")
    return Assumed(
        per_second=None if per_minute is None else per_minute / 60,
        service=None if mean is None else Service(mean, mean if deviation is None else deviation),
        slots=options["slots"],
    )


def _plan(known: Measured, target_seconds: float, assumed: Assumed) -> Plan | None:
    try:
        return capacity.plan(known, target_seconds=target_seconds, assumed=assumed)
    except capacity.TooMuch:
        raise CommandError(
            f"So much work would keep more than {MOST_SLOTS} slots of {known.model} busy. Check the numbers."
        ) from None


# For people ----------------------------------------------------------------------------------------------------------


def _lines(known: Measured, plan: Plan | None, options: dict[str, Any]) -> list[str]:
    if plan is None:
        return [f"{known.model}: no task ended, so nobody knows how long one takes", ""]
    average, busiest = 60 * known.per_second, 60 * known.busiest_per_second
    came = f"measured: {average:.3g}, in the busiest {capacity.BUSIEST_MINUTES} minutes {busiest:.3g}"
    held = f"{formats.duration(plan.service.mean)}, standard deviation {formats.duration(plan.service.deviation)}"
    by = "assumed" if options["service_seconds"] else f"of {_number(known.tasks, 'task')}"
    rows = [
        ("tasks a minute", f"{60 * plan.per_second:.3g} ({came})"),
        ("a task holds a slot", f"{held} ({by})"),
        ("slots", f"{plan.slots} ({'assumed' if options['slots'] else _places(known)})"),
        ("utilisation", f"{100 * plan.utilisation:.0f} %" if plan.slots else "no node takes its tasks"),
        *_wait_rows(plan),
        (f"P95 up to {formats.duration(plan.target_seconds)}", f"takes {_number(plan.slots_needed, 'slot')}"),
    ]
    return [known.model, *(f"  {name:<21} {value}" for name, value in rows), ""]


def _wait_rows(plan: Plan) -> list[tuple[str, str]]:
    if plan.waiting is None:
        return [("the queue grows", f"by {3600 * plan.grows_per_second:.3g} tasks an hour, as long as this lasts")]
    mean, late = formats.duration(plan.waiting.mean), formats.duration(plan.waiting.within(P95))
    waits = f"{100 * plan.waiting.probability:.0f} % of the tasks wait at all"
    return [("wait", f"{mean} on average, P95 {late}; {waits}")]


def _places(known: Measured) -> str:
    return ", ".join(f"{place.slots} on {place.node}" for place in known.places) or "none on a node that takes tasks"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


# For programs --------------------------------------------------------------------------------------------------------


def _as_dict(known: Measured, plan: Plan | None) -> dict[str, Any]:
    told = {
        "model": known.model,
        "measured": {
            "tasks_per_minute": 60 * known.per_second,
            "busiest_tasks_per_minute": 60 * known.busiest_per_second,
            "tasks_ended": known.tasks,
            "service_seconds": known.service.mean if known.service else None,
            "deviation_seconds": known.service.deviation if known.service else None,
            "nodes": [{"node": place.node, "slots": place.slots} for place in known.places],
        },
    }
    return told | {"plan": _plan_as_dict(plan) if plan else None}


def _plan_as_dict(plan: Plan) -> dict[str, Any]:
    """What is infinite is null."""
    return {
        "tasks_per_minute": 60 * plan.per_second,
        "service_seconds": plan.service.mean,
        "deviation_seconds": plan.service.deviation,
        "slots": plan.slots,
        "utilisation": plan.utilisation if plan.slots else None,
        "wait_probability": plan.waiting.probability if plan.waiting else None,
        "mean_wait_seconds": plan.waiting.mean if plan.waiting else None,
        "p95_wait_seconds": plan.waiting.within(P95) if plan.waiting else None,
        "queue_grows_per_hour": 3600 * plan.grows_per_second,
        "wait_target_seconds": plan.target_seconds,
        "slots_needed": plan.slots_needed,
    }


# Options -------------------------------------------------------------------------------------------------------------


def _number_in(text: str, what: str, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise ArgumentTypeError(f"{text!r} is not {what}.")
    return value


def _hours(text: str) -> float:
    return _number_in(text, f"a number of hours up to {LONGEST_HOURS}", 0.01, LONGEST_HOURS)


def _positive(text: str) -> float:
    return _number_in(text, "a number above 0 and up to a million", 1e-6, 1e6)


def _not_negative(text: str) -> float:
    return _number_in(text, "a number from 0 to a million", 0, 1e6)


def _slots(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MOST_SLOTS:
        raise ArgumentTypeError(f"{text!r} is not a number of slots from 1 to {MOST_SLOTS}.")
    return int(text[:9])
