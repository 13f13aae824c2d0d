"""Walking along the chain: does every entry say what it said when it was sealed, and is every one there?"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from django.db.models import Min

from core.audit import checkpoints
from core.audit.seal import BATCH, NO_SEAL, Link, links, seal_of
from core.models import AuditCheckpoint, AuditEntry


@dataclass(frozen=True)
class Finding:
    """The first thing that is wrong. kind: "altered", "removed", "reordered", "truncated" or "rewritten"."""

    kind: str
    sequence: int
    text: str


@dataclass(frozen=True)
class Verdict:
    """What a walk found. intact: entries that hold, from the first on. unsealed: those not in the chain yet."""

    intact: int
    finding: Finding | None
    unsealed: int
    oldest_unsealed_at: datetime | None


def verify() -> Verdict:
    """Check the whole chain, in constant memory, up to the first thing that is wrong."""
    intact, finding = _walk()
    tail = AuditEntry.objects.unsealed()
    oldest = tail.aggregate(oldest=Min("created_at"))["oldest"]
    return Verdict(intact, finding, tail.count(), oldest)


def _walk() -> tuple[int, Finding | None]:
    place, seal = 0, NO_SEAL
    for batch in _batches(links()):
        signed = _checkpoints(batch)
        for link in batch:
            if finding := _wrong(link, place + 1, seal) or _against(signed.get(link.sequence), link):
                return place, finding
            place, seal = link.sequence, link.seal
    return place, _cut_off(place)


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
