"""The way of each order through the enricher, in the logs at level debug: its `tid` finds every step.

What goes wrong is logged where it happens, at its own level. No content of an order is logged. Where
the level is off, a batch costs a few questions, and no text is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from aiokafka import ConsumerRecord

from consumer.enrich.read.routing import ReadHint
from consumer.enrich.read.wanted import Wanted
from consumer.enrich.write.published import AnyUnpublished
from schemas.change import Change
from topsync.base import telemetry
from topsync.model import named
from topsync.model.kind import Kind
from topsync.model.known import Known
from topsync.model.need import Need
from topsync.model.refetch import PLATFORM_UNAVAILABLE, Lingering, Refetch
from topsync.platforms.fetch_outcome import AskAgain, FetchOutcome, PassOver, PlatformIsAway, SetAside, Take
from topsync.store.erasures import Tombstone
from topsync.store.versions import Version
from topsync.stream import records

log = telemetry.get_logger(__name__)


def is_followed() -> bool:
    """Whether single orders are logged."""
    return telemetry.writes_debug()


def hints_read(found: Iterable[ReadHint]) -> None:
    """Hints came in."""
    if is_followed():
        for hint in found:
            record, change = hint.record, hint.change
            log.debug(
                "hint read",
                tid=change.tid,
                **_named(change),
                seller_id=change.seller_id,
                source=change.source.value,
                event_name=change.event,
                reason=change.reason,
                partition=record.partition,
                offset=record.offset,
            )


def snapshots_read(found: Iterable[ConsumerRecord[bytes, bytes]]) -> None:
    """Whole orders came in."""
    if is_followed():
        for record in found:
            tid = records.tid_of_key(record.key)
            log.debug("snapshot read", tid=tid, partition=record.partition, offset=record.offset)


def answered(kind: Kind, ids: Iterable[int], needs: Mapping[int, Need], known: Mapping[int, Known]) -> None:
    """What is stored answers these: no call is spent on them."""
    if is_followed():
        for id_ in ids:
            log.debug(
                "answered by what is stored",
                tid=needs[id_].tid,
                **named.ids(kind, id_),
                modified=_text(known[id_].modified),
                fetched_at=_text(known[id_].fetched_at),
            )


def fetch_begun(wanted: Wanted) -> None:
    """A detail is asked for."""
    if is_followed():
        log.debug(
            "fetch begun",
            tid=wanted.need.tid,
            **named.ids(wanted.kind.kind, wanted.id),
            source=wanted.need.source.value,
            settled_after=_text(wanted.need.settled_after),
        )


def fetch_ended(wanted: Wanted, outcome: FetchOutcome, version: Version | None) -> None:
    """What came of asking for a detail, and the version that it is."""
    if is_followed():
        known = {} if version is None else {"status": version.status, "modified": _text(version.modified)}
        log.debug(
            "fetch ended",
            tid=wanted.need.tid,
            **named.ids(wanted.kind.kind, wanted.id),
            outcome=_word_for(outcome),
            **known,
        )


def _word_for(outcome: FetchOutcome) -> str:
    match outcome:
        case Take():
            return "fetched"
        case AskAgain(reason) | SetAside(reason):
            return reason
        case PlatformIsAway():
            return PLATFORM_UNAVAILABLE
        case PassOver():
            return "passed over"


def stored(versions: Iterable[Version], ahead: Iterable[AnyUnpublished]) -> None:
    """Versions were handed to the table; those ahead of the topic are new in it."""
    if is_followed():
        revisions = {row.key: row.revision for row in ahead}
        for version in versions:
            part = named.ids(version.kind, version.key)
            if (revision := revisions.get(version.key)) is None:
                log.debug("no newer than what is stored", tid=version.tid, **part)
            else:
                log.debug("stored", tid=version.tid, **part, revision=revision)


def waits(postponed: Iterable[Refetch], lingering: Iterable[Lingering]) -> None:
    """Orders were noted to be asked for later."""
    if is_followed():
        for refetch in postponed:
            later = _text(refetch.settled_after)
            parts = [f"{part.kind} {part.id}" for part in refetch.parts]
            log.debug("waits", tid=refetch.tid, reason=refetch.reason, settled_after=later, parts=parts)
        for each in lingering:
            log.debug("waits", tid=each.order.tid, reason=each.order.reason, until=_text(each.until))


def erased(tids: Iterable[int]) -> None:
    """Orders were taken out of the table."""
    if is_followed():
        for tid in tids:
            log.debug("erased", tid=tid)


def published(ahead: Mapping[Kind, Iterable[AnyUnpublished]], tombstones: Iterable[Tombstone]) -> None:
    """The topics hold these versions."""
    if is_followed():
        for kind, version in ((kind, version) for kind, versions in ahead.items() for version in versions):
            part, words = named.ids(kind, version.key), version.step.words
            log.debug("published", tid=version.tid, **part, revision=version.revision, transitions=words)
        for gone in tombstones:
            log.debug("tombstone published", tid=gone.tid, kind=gone.kind.value, id=gone.id)


def _named(change: Change) -> dict[str, int]:
    """The parts that a hint names beside its order."""
    return {kind.id_name: part.id for kind, part in named.parts(change)}


def _text(moment: datetime) -> str:
    return moment.isoformat()
