"""Walking along the chain: does every entry say what it said when it was sealed, and is every one there?"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from django.db.models import Min

from core.audit import checkpoints, counts
from core.audit.seal import BATCH, NO_SEAL, Link, links, seal_of
from core.models import AuditBeginning, AuditCheckpoint, AuditEntry


class LogDamagedError(RuntimeError):
    """The audit log is not what was written. Keep the database as it is, and compare it with backups and exports."""


@dataclass(frozen=True)
class Finding:
    """The first thing that is wrong.

    kind: "altered", "removed", "reordered", "truncated" or "rewritten"; where old entries were removed for their age,
    also "forged" (what says so) and "added" (entries from before).
    """

    kind: str
    sequence: int
    text: str


@dataclass(frozen=True)
class Verdict:
    """What a walk found.

    beginning: where it began, if not at the first entry of all. intact: entries that hold, from there on.
    unsealed: those not in the chain yet.
    """

    beginning: AuditBeginning | None
    intact: int
    finding: Finding | None
    unsealed: int
    oldest_unsealed_at: datetime | None

    @property
    def told_of_removal(self) -> str:
        """What the log itself says is not there any more; empty where nothing was removed."""
        if self.beginning is None:
            return ""
        until = f"the last written at {self.beginning.until:%Y-%m-%d %H:%M:%S} UTC"
        return f"Entries 1 to {self.beginning.sequence}, {until}, were removed for their age, as was signed then."


def verify() -> Verdict:
    """Check the whole chain, in constant memory, up to the first thing that is wrong."""
    begun = checkpoints.beginning()
    last, finding = _walk(begun)
    while finding and _start(moved := checkpoints.beginning()) != _start(begun):
        begun = moved  # what the walk missed had just been removed for its age
        last, finding = _walk(begun)
    if finding:
        counts.damaged.inc()
    tail = AuditEntry.objects.unsealed()
    oldest = tail.aggregate(oldest=Min("created_at"))["oldest"]
    return Verdict(begun, last - _start(begun)[0], finding, tail.count(), oldest)


def check_until(place: int) -> None:
    """Check the chain up to an entry. Raises LogDamagedError."""
    _, finding = _walk(checkpoints.beginning(), until=place)
    if finding is not None:
        counts.damaged.inc()
        raise LogDamagedError(finding.text)


def _walk(begun: AuditBeginning | None, until: int | None = None) -> tuple[int, Finding | None]:
    """Walk along the chain, to its end or to a place in it; returns the last place that holds, and what is wrong."""
    place, seal = _start(begun)
    if begun is not None and (finding := _wrong_beginning(begun)):
        return place, finding
    for batch in _batches(links(after=place)):
        signed = _checkpoints(batch)
        for link in batch:
            if place == until:
                return place, None
            if finding := _wrong(link, place + 1, seal) or _against(signed.get(link.sequence), link):
                return place, finding
            place, seal = link.sequence, link.seal
    return place, _cut_off(place)


def _start(begun: AuditBeginning | None) -> tuple[int, str]:
    return (begun.sequence, begun.seal) if begun else (0, NO_SEAL)


def _wrong_beginning(begun: AuditBeginning) -> Finding | None:
    if not checkpoints.is_genuine_beginning(begun):
        text = f"The statement that the entries up to {begun.sequence} were removed for their age: forged."
        return Finding("forged", 1, text)
    older = AuditEntry.objects.filter(sequence__lte=begun.sequence).order_by("sequence").first()
    if older is None:
        return None
    text = f"Entry {older.sequence} (id {older.pk}): added. The entries up to {begun.sequence} were removed."
    return Finding("added", older.sequence or 0, text)


def _batches(chain: Iterator[Link]) -> Iterator[list[Link]]:
    while batch := list(islice(chain, BATCH)):
        yield batch


def _checkpoints(batch: list[Link]) -> dict[int, AuditCheckpoint]:
    found = AuditCheckpoint.objects.filter(sequence__gte=batch[0].sequence, sequence__lte=batch[-1].sequence)
    return {checkpoint.sequence: checkpoint for checkpoint in found}


def _wrong(link: Link, place: int, previous: str) -> Finding | None:
    """Judge the entry that is found where the entry of a place should be."""
    here = f"(id {link.entry_id})"
    if link.sequence != place:
        missing = f"Entry {place}" if link.sequence == place + 1 else f"Entries {place} to {link.sequence - 1}"
        return Finding(
            "removed", place, f"{missing} of the chain: removed. What follows is entry {link.sequence} {here}."
        )
    if seal_of(previous, place, link.content) == link.seal:
        return None
    if other := _belongs_at(place, previous, link, links(after=place)):
        there = f"What was sealed there stands as entry {other.sequence} (id {other.entry_id})."
        return Finding("reordered", place, f"Entry {place} of the chain {here}: reordered. {there}")
    what = "altered, or put in place of entries that were removed."
    return Finding("altered", place, f"Entry {place} of the chain {here}: {what}")


def _belongs_at(place: int, previous: str, found: Link, others: Iterable[Link]) -> Link | None:
    """Find the entry that was sealed for a place among those behind it; its seal may have stayed at the place."""
    return next(
        (other for other in others if seal_of(previous, place, other.content) in {other.seal, found.seal}), None
    )


def _against(checkpoint: AuditCheckpoint | None, link: Link) -> Finding | None:
    """Compare an entry that holds with what was signed about its place."""
    if checkpoint is None or (checkpoint.seal == link.seal and checkpoints.is_genuine(checkpoint)):
        return None
    text = f"The signed checkpoint at entry {link.sequence} (id {link.entry_id}) tells of another chain: rewritten."
    return Finding("rewritten", link.sequence, text)


def _cut_off(place: int) -> Finding | None:
    """Judge the end of a chain that holds: a checkpoint may know of more."""
    newest = AuditCheckpoint.objects.order_by("-sequence").first()
    if newest is None or newest.sequence <= place:
        return None
    reached = f"had reached entry {newest.sequence} at {newest.created_at:%Y-%m-%d %H:%M:%S} UTC"
    return Finding("truncated", place + 1, f"The chain ends at entry {place}, but {reached}: its end was removed.")
