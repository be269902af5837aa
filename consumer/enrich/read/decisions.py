"""What the enricher decides about a batch of changes, without I/O: what to fetch, and what may wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from schemas import platform_time
from schemas.change import Change, Source
from topsync.model import named
from topsync.model.kind import Kind
from topsync.model.known import Known
from topsync.model.linger import NO_LINGER, LingerTimes
from topsync.model.need import Need
from topsync.model.refetch import LINGERING, WAITING_IN_BACKLOG


def believable(change: Change, *, latest_now: datetime) -> Change:
    """The hint without future times; `latest_now` is the latest that platform time can be.

    No state would ever answer such a time, and nothing would ever be as new as it promises.
    """
    ahead = change.occurred_at - latest_now
    other: dict[str, datetime | None] = {}
    if ahead > timedelta(0):
        other |= {"occurred_at": latest_now, "settled_after": change.settled_after - ahead}
    for name in named.MODIFIED_NAMES:
        modified: datetime | None = getattr(change, name)
        if modified is not None and modified > latest_now:
            other[name] = None
    return change.model_copy(update=other) if other else change


def coalesce(changes: Iterable[Change], kind: Kind, linger: LingerTimes = NO_LINGER) -> dict[int, Need]:
    """A need for each thing of a kind that is named, by its id: a single fetch answers every older hint
    about it.
    """
    found = ((named.named(change, kind), change) for change in changes)
    return _joined(
        (thing.id, _need(change, thing.modified, linger)) for thing, change in found if thing is not None
    )


def _joined(needs: Iterable[tuple[int, Need]]) -> dict[int, Need]:
    joined: dict[int, Need] = {}
    for key, need in needs:
        known = joined.get(key)
        joined[key] = need if known is None else _join(known, need)
    return joined


def _need(change: Change, modified: datetime | None, linger: LingerTimes = NO_LINGER) -> Need:
    is_pushed = change.source is Source.PUSH
    # A hint with a reason asks again, and needs a proof; a message is satisfied with less.
    is_message = is_pushed and change.reason is None
    return Need(
        tid=change.tid,
        seller_id=change.seller_id,
        settled_after=change.settled_after,
        proven_after=None if is_message else change.settled_after,
        reported_at=change.occurred_at if is_message else None,
        modified=modified,
        source=change.source,
        hinted_at=change.occurred_at if is_pushed else None,
        received_at=change.received_at if is_pushed else None,
        newest_at=change.received_at,
        linger_until=_linger_until(change, linger) if is_message else None,
        by_part_alone=not is_pushed and bool(named.parts(change)),
    )


def _linger_until(change: Change, linger: LingerTimes) -> datetime | None:
    wait = linger.get(change.event)
    # Counted from its receipt at the latest: a time ahead of our clock must not hold a message up.
    return None if wait is None else min(change.occurred_at, change.received_at) + wait


def _join(first: Need, second: Need) -> Need:
    return Need(
        tid=second.tid,
        seller_id=second.seller_id,
        settled_after=max(first.settled_after, second.settled_after),
        proven_after=_latest(first.proven_after, second.proven_after),
        reported_at=_latest(first.reported_at, second.reported_at),
        modified=_latest(first.modified, second.modified),
        source=min(first.source, second.source, key=_URGENCY.__getitem__),
        hinted_at=_earliest(first.hinted_at, second.hinted_at),
        received_at=_earliest(first.received_at, second.received_at),
        newest_at=max(first.newest_at, second.newest_at),
        linger_until=_earlier_of_both(first.linger_until, second.linger_until),
        by_part_alone=first.by_part_alone and second.by_part_alone,
    )


def is_answered(need: Need, known: Known | None) -> bool:
    """Whether what is stored already answers the need, so that no call has to be spent.

    A list wants proof: a state that was fetched when its change was settled. A message is also answered by a
    state that was fetched after it and has reached its second. It may hide another change of
    the same second that the platform's detail did not show yet. A fetch for this message, so soon, might miss
    it as well; the next sweep finds it.
    """
    if known is None or (need.modified is not None and known.modified < need.modified):
        return False
    if known.fetched_at >= need.settled_after:
        return True
    reported = need.reported_at
    if reported is None or (need.proven_after is not None and known.fetched_at < need.proven_after):
        return False
    return known.fetched_at >= reported and known.modified >= platform_time.floor_to_second(reported)


def to_fetch(needs: Mapping[int, Need], known: Mapping[int, Known]) -> dict[int, Need]:
    """The needs that what is stored does not answer, by id."""
    return {id_: need for id_, need in needs.items() if not is_answered(need, known.get(id_))}


def may_be_waiting(need: Need) -> bool:
    """Whether it makes a difference that its order already waits for something."""
    return need.source is not Source.PUSH or need.linger_until is not None


def may_wait(need: Need, *, late_before: datetime | None, waiting: Mapping[int, str]) -> bool:
    """Whether a need goes into the backlog: it is late, or its order is in there already.

    A message is worth a fetch as long as it is fresh. A pull may find an order of the backlog unsettled: then
    it only adds to what the backlog has to bring. `waiting` says why an order is in `refetches` already.
    """
    if late_before is not None and need.newest_at < late_before:
        return True
    return need.source is not Source.PUSH and waiting.get(need.tid) in WAITING_IN_BACKLOG


def lingers_until(need: Need, *, now: datetime, waiting: Mapping[int, str]) -> datetime | None:
    """Until when a need waits for more messages of its order, so that one call answers all; None: not at all.

    It does not wait where its order is `waiting` for anything else: that may take longer than it may wait.
    """
    if need.linger_until is None or waiting.get(need.tid, LINGERING) != LINGERING:
        return None
    return need.linger_until if now < need.linger_until else None


_URGENCY = {source: rank for rank, source in enumerate(Source)}


def _earlier_of_both(first: datetime | None, second: datetime | None) -> datetime | None:
    return None if first is None or second is None else min(first, second)


def _latest(first: datetime | None, second: datetime | None) -> datetime | None:
    return max((moment for moment in (first, second) if moment is not None), default=None)


def _earliest(first: datetime | None, second: datetime | None) -> datetime | None:
    return min((moment for moment in (first, second) if moment is not None), default=None)
