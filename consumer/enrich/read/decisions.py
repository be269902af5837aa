"""What the enricher decides about a batch of changes, without I/O: which orders and refunds to fetch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from schemas import platform_time
from schemas.change import Change, Source
from topsync.model.known import Known
from topsync.model.linger import NO_PATIENCE, Patience
from topsync.model.need import Need
from topsync.model.refetch import LINGERING, WAITING_IN_BACKLOG
from topsync.store.orders import OrderVersion, RefundLine
from topsync.store.refunds import RefundVersion


def believable(change: Change, *, latest_now: datetime) -> Change:
    """The hint without what it says of times to come; `latest_now` is the latest that platform time can be.

    No state would ever answer that, and nothing would ever be as new as it promises.
    """
    ahead = change.occurred_at - latest_now
    told: dict[str, datetime | None] = {}
    if ahead > timedelta(0):
        told |= {"occurred_at": latest_now, "settled_after": change.settled_after - ahead}
    if change.modified is not None and change.modified > latest_now:
        told["modified"] = None
    if change.refund_modified is not None and change.refund_modified > latest_now:
        told["refund_modified"] = None
    return change.model_copy(update=told) if told else change


def coalesce(changes: Iterable[Change], patience: Patience = NO_PATIENCE) -> dict[int, Need]:
    """One need per order: one fetch answers every hint that is older than it."""
    return _joined((change.tid, _need(change, change.modified, patience)) for change in changes)


def coalesce_refunds(changes: Iterable[Change]) -> dict[int, Need]:
    """One need per refund that is named, by its id."""
    return _joined(
        (change.refund_id, _need(change, change.refund_modified))
        for change in changes
        if change.refund_id is not None
    )


def _joined(needs: Iterable[tuple[int, Need]]) -> dict[int, Need]:
    joined: dict[int, Need] = {}
    for key, need in needs:
        known = joined.get(key)
        joined[key] = need if known is None else _join(known, need)
    return joined


def _need(change: Change, modified: datetime | None, patience: Patience = NO_PATIENCE) -> Need:
    is_pushed = change.source is Source.PUSH
    # With a reason, something asks again: it needs what a message is content without.
    is_message = is_pushed and change.reason is None
    return Need(
        tid=change.tid,
        seller_id=change.seller_id,
        settled_after=change.settled_after,
        proven_after=None if is_message else change.settled_after,
        told_at=change.occurred_at if is_message else None,
        modified=modified,
        source=change.source,
        hinted_at=change.occurred_at if is_pushed else None,
        received_at=change.received_at if is_pushed else None,
        newest_at=change.received_at,
        patient_until=_patient_until(change, patience) if is_message else None,
        by_refund_alone=change.refund_id is not None and not is_pushed,
    )


def _patient_until(change: Change, patience: Patience) -> datetime | None:
    wait = patience.get(change.event)
    # Counted from its receipt at the latest: a time that is ahead of ours must not hold a message up.
    return None if wait is None else min(change.occurred_at, change.received_at) + wait


def _join(one: Need, other: Need) -> Need:
    return Need(
        tid=other.tid,
        seller_id=other.seller_id,
        settled_after=max(one.settled_after, other.settled_after),
        proven_after=_latest(one.proven_after, other.proven_after),
        told_at=_latest(one.told_at, other.told_at),
        modified=_latest(one.modified, other.modified),
        source=min(one.source, other.source, key=_URGENCY.__getitem__),
        hinted_at=_earliest(one.hinted_at, other.hinted_at),
        received_at=_earliest(one.received_at, other.received_at),
        newest_at=max(one.newest_at, other.newest_at),
        patient_until=_least_patient(one.patient_until, other.patient_until),
        by_refund_alone=one.by_refund_alone and other.by_refund_alone,
    )


def is_answered(need: Need, known: Known | None) -> bool:
    """Whether what is stored already answers the need, so that no call has to be spent.

    A list wants proof: a state that was fetched when its change was settled. A message is also answered by a
    state that was fetched after it and has reached its second. Hidden behind that may be another change of
    the same second that the platform's detail did not show yet: as with a fetch of its own so soon, which
    the next sweep confirms.
    """
    if known is None or (need.modified is not None and known.modified < need.modified):
        return False
    if known.fetched_at >= need.settled_after:
        return True
    if need.told_at is None or (need.proven_after is not None and known.fetched_at < need.proven_after):
        return False
    return known.fetched_at >= need.told_at and known.modified >= platform_time.floor_to_second(need.told_at)


def to_fetch(needs: Mapping[int, Need], known: Mapping[int, Known]) -> list[Need]:
    """The needs that what is stored does not answer."""
    return [need for need in needs.values() if not is_answered(need, known.get(need.tid))]


def may_wait(need: Need, *, late_before: datetime | None, waiting: Mapping[int, str]) -> bool:
    """Whether a need goes into the backlog: it is late, or its order is in there already.

    A message is worth a fetch as long as it is fresh; a pull that finds an order unsettled which is in the
    backlog only adds to what that has to bring. `waiting` says why an order is in `refetches` already.
    """
    if late_before is not None and need.newest_at < late_before:
        return True
    return need.source is not Source.PUSH and waiting.get(need.tid) in WAITING_IN_BACKLOG


def lingers_until(need: Need, *, now: datetime, waiting: Mapping[int, str]) -> datetime | None:
    """Until when a need waits for more messages of its order, so that one call answers all; none: not at all.

    It does not where its order is `waiting` for anything else: that may take longer than a message may wait.
    """
    if need.patient_until is None or waiting.get(need.tid, LINGERING) != LINGERING:
        return None
    return need.patient_until if now < need.patient_until else None


def refunds_shown_otherwise(
    versions: Iterable[OrderVersion], known: Mapping[int, Known], already: Iterable[int]
) -> dict[int, Need]:
    """The refunds that fetched orders show, and that are not stored like that; by `refund_id`.

    A line tells of its latest refund the id and the status (docs/platform/gateway.md 5.4), and neither on
    peak days.
    """
    needs: dict[int, Need] = {}
    for version in versions:
        for line in version.trade.orders:
            if line.refund_id is None or line.refund_id in already:
                continue
            stored = known.get(line.refund_id)
            if stored is None or (
                stored.status != line.refund_status and stored.fetched_at < version.fetched_at
            ):
                needs[line.refund_id] = Need(
                    tid=version.trade.tid,
                    seller_id=version.seller_id,
                    settled_after=version.fetched_at,
                    proven_after=version.fetched_at,
                    told_at=None,
                    modified=None,
                    source=Source(version.source),
                    hinted_at=None,
                    received_at=None,
                    newest_at=version.fetched_at,
                )
    return needs


def lines_of(versions: Iterable[OrderVersion]) -> list[RefundLine]:
    """What fetched orders show of refunds, as the store tells it of stored ones."""
    return [
        RefundLine(version.trade.tid, version.fetched_at, line.oid, line.refund_id, line.refund_status)
        for version in versions
        for line in version.trade.orders
    ]


def ahead_of_order(versions: Iterable[RefundVersion], lines: Iterable[RefundLine]) -> Iterator[RefundVersion]:
    """The refunds that were fetched after their order, and are not as the order shows them.

    A line that shows another refund than this one says nothing: it shows only its latest. Nor does one
    without a status, as on peak days.
    """
    by_line = {(line.tid, line.oid): line for line in lines}
    for version in versions:
        line = by_line.get((version.refund.tid, version.refund.oid))
        if line is None or line.refund_status is None or line.fetched_at >= version.fetched_at:
            continue
        if line.refund_id in (None, version.refund.refund_id) and line.refund_status != version.refund.status:
            yield version


_URGENCY = {source: rank for rank, source in enumerate(Source)}


def _least_patient(one: datetime | None, other: datetime | None) -> datetime | None:
    return None if one is None or other is None else min(one, other)


def _latest(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((moment for moment in (one, other) if moment is not None), default=None)


def _earliest(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((moment for moment in (one, other) if moment is not None), default=None)
