"""The one box for dead letters: only here are they built, counted, logged and kept from repeating themselves.

Whoever sets something aside builds a letter, publishes its record, and reports it once it is sure that it is
published (`report`). Letters about orders and refunds go through `without_repeats` before, and are noted
afterwards (`note`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiokafka import ConsumerRecord

from schemas import cloud_events
from topsync.base import metrics, telemetry
from topsync.deadletters import reasons
from topsync.model import named
from topsync.store import open_letters
from topsync.store.database import Pool
from topsync.store.open_letters import OpenDeadLetter, Subject
from topsync.stream import records
from topsync.stream.records import Record
from topsync.stream.topics import Registry

log = telemetry.get_logger(__name__)

for _reason in reasons.KNOWN:
    # Shown as 0 from the start: of a counter that appears as 1, Prometheus sees no increase.
    metrics.DEAD_LETTERS.labels(_reason)


@dataclass(frozen=True, slots=True)
class Original:
    """What is set aside: bytes, with key and headers of the record that they are from or that led to them."""

    value: bytes | None
    key: bytes | None = None
    headers: Iterable[tuple[str, bytes]] = ()

    @classmethod
    def of(cls, record: ConsumerRecord[bytes, bytes], answer: bytes | None = None) -> Original:
        """A record, or the answer that it led to."""
        return cls(record.value if answer is None else answer, record.key, record.headers)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What cannot be read or done, ready to be published."""

    record: Record
    reason: str
    """A fixed word for counting, one of `topsync.deadletters.reasons`."""
    detail: str
    seller_id: int | None
    subject: Subject | None
    """What it is about; none where that is a record and no order."""

    def report(self) -> None:
        """Count it and log it: it will be published."""
        metrics.DEAD_LETTERS.labels(self.reason).inc()
        about = self.subject
        log.warning(
            "set aside",
            reason=self.reason,
            detail=self.detail,
            tid=about and about.tid,
            **({} if about is None else named.ids(about.kind, about.id)),
            source=cloud_events.attributes(self.record.headers)["source"],
        )

    def opened(self) -> OpenDeadLetter | None:
        """What the table has to know of it once the topic has it."""
        if self.subject is None:
            return None
        event_id = cloud_events.attributes(self.record.headers)["id"]
        return OpenDeadLetter(self.subject, event_id, self.seller_id)


def letter(
    topics: Registry,
    reason: str,
    detail: str,
    original: Original,
    *,
    at: datetime,
    origin: str,
    seller_id: int | None = None,
    subject: Subject | None = None,
) -> DeadLetter:
    """A letter, not reported yet. Pure.

    `detail` explains and holds no personal data; `at` is platform time; `origin` says which part of topsync
    sets it aside, and from where.
    """
    record = records.dead_letter(
        topics.dead_letters.name,
        reason=reason,
        detail=detail,
        original=original.value,
        original_headers=original.headers,
        key=original.key,
        at=at,
        origin=origin,
        seller_id=seller_id,
    )
    return DeadLetter(record, reason, detail, seller_id, subject)


async def without_repeats(pool: Pool, letters: list[DeadLetter], *, kept: timedelta) -> list[DeadLetter]:
    """The letters but for those whose subject has one that is open, each subject once.

    `kept` is how long the topic keeps a letter.
    """
    subjects = {dead_letter.subject for dead_letter in letters if dead_letter.subject is not None}
    if not subjects:
        return letters
    return first_ones(letters, await open_letters.among(pool, subjects, kept=kept))


def first_ones(letters: Iterable[DeadLetter], open_already: Set[Subject]) -> list[DeadLetter]:
    """The letters but for those whose subject has one that is open, each subject once. Pure."""
    seen, first = set(open_already), []
    for dead_letter in letters:
        if dead_letter.subject is None or dead_letter.subject not in seen:
            first.append(dead_letter)
        if dead_letter.subject is not None:
            seen.add(dead_letter.subject)
    return first


async def note(pool: Pool, letters: Sequence[DeadLetter], *, kept: timedelta) -> None:
    """Note that the topic has these letters. Idempotent."""
    opened = [noted for dead_letter in letters if (noted := dead_letter.opened()) is not None]
    if opened:
        await open_letters.note(pool, opened, kept=kept)
