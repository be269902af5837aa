"""The way of each order through the enricher, in the logs at level debug: its `tid` finds every step.

What goes wrong is logged where it happens, at its own level. Nothing of what is in an order is logged. Where
the level is off, a batch costs a few questions, and no text is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from aiokafka import ConsumerRecord

from schemas.change import Change
from topsync.base import telemetry
from topsync.model.known import Known
from topsync.model.need import Need
from topsync.model.refetch import Lingering, Refetch
from topsync.store.erasures import Tombstone
from topsync.store.orders import UnpublishedOrder
from topsync.store.refunds import UnpublishedRefund
from topsync.store.versions import Version
from topsync.stream import records

log = telemetry.get_logger(__name__)


def is_followed() -> bool:
    """Whether anybody reads of single orders."""
    return telemetry.writes_debug()


def hints_read(found: Iterable[tuple[ConsumerRecord[bytes, bytes], Change]]) -> None:
    """Hints came in."""
    if is_followed():
        for record, change in found:
            log.debug(
                "hint read",
                tid=change.tid,
                refund_id=change.refund_id,
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


def answered(needs: Mapping[int, Need], wanted: Iterable[Need], known: Mapping[int, Known]) -> None:
    """What is stored answers all of the needs but the wanted: no call is spent on them."""
    if is_followed():
        for tid in needs.keys() - {need.tid for need in wanted}:
            stored = known[tid]
            log.debug(
                "answered by what is stored",
                tid=tid,
                modified=_text(stored.modified),
                fetched_at=_text(stored.fetched_at),
            )


def fetch_begun(need: Need, refund_id: int | None = None) -> None:
    """A detail is asked for."""
    if is_followed():
        log.debug(
            "fetch begun",
            tid=need.tid,
            refund_id=refund_id,
            source=need.source.value,
            settled_after=_text(need.settled_after),
        )


def fetched(version: Version) -> None:
    """A detail came, and is a version."""
    if is_followed():
        refund_id = None if version.key == version.tid else version.key
        log.debug(
            "fetch ended",
            tid=version.tid,
            refund_id=refund_id,
            outcome="fetched",
            status=version.status,
            modified=_text(version.modified),
        )


def fetch_failed(need: Need, outcome: str) -> None:
    """No version came of it, for a reason in a fixed word."""
    if is_followed():
        log.debug("fetch ended", tid=need.tid, outcome=outcome)


def stored(versions: Iterable[Version], ahead: Iterable[UnpublishedOrder | UnpublishedRefund]) -> None:
    """Versions were handed to the table; those ahead of the topic are new in it."""
    if is_followed():
        revisions = {one.key: one.revision for one in ahead}
        for version in versions:
            refund_id = None if version.key == version.tid else version.key
            if (revision := revisions.get(version.key)) is None:
                log.debug("no newer than what is stored", tid=version.tid, refund_id=refund_id)
            else:
                log.debug("stored", tid=version.tid, refund_id=refund_id, revision=revision)


def waits(postponed: Iterable[Refetch], lingering: Iterable[Lingering]) -> None:
    """Orders were noted to be asked for later."""
    if is_followed():
        for one in postponed:
            later = _text(one.settled_after)
            log.debug("waits", tid=one.tid, reason=one.reason, settled_after=later, refund_ids=one.refund_ids)
        for each in lingering:
            log.debug("waits", tid=each.order.tid, reason=each.order.reason, until=_text(each.until))


def erased(tids: Iterable[int]) -> None:
    """Orders were taken out of the table."""
    if is_followed():
        for tid in tids:
            log.debug("erased", tid=tid)


def published(ahead: Iterable[UnpublishedOrder | UnpublishedRefund], tombstones: Iterable[Tombstone]) -> None:
    """The topics have these."""
    if is_followed():
        for one in ahead:
            refund_id = None if one.key == one.tid else one.key
            words = one.step.words
            log.debug("published", tid=one.tid, refund_id=refund_id, revision=one.revision, transitions=words)
        for gone in tombstones:
            log.debug("tombstone published", tid=gone.tid, kind=gone.kind.value, id=gone.id)


def _text(moment: datetime) -> str:
    return moment.isoformat()
