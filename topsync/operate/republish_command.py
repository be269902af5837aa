"""`topsync republish`: asks the enrichers to publish again what the tables hold, and shows the progress."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import uuid4

from topsync.base import terminal
from topsync.base.errors import OperatorError, reaching
from topsync.base.progress_bars import Bars
from topsync.model.kind import Kind
from topsync.store import compacted_topics, republications, sellers
from topsync.store.database import Pool
from topsync.store.republications import (
    Republication,
    RepublicationState,
    UnderWayError,
    WantedRepublication,
)
from topsync.stream import topics
from topsync.stream.producer import PublishError
from topsync.verify.topic_watch import TopicWatch
from topsync.wiring import parts

POLL_SECONDS: Final = 0.5

QUIET_SECONDS: Final = 30.0
"""After this long without a record, we say what may be the cause."""


class RepublishError(OperatorError):
    """The request cannot be carried out."""


@dataclass(frozen=True, slots=True)
class RepublishRequest:
    """What an operator asks for, as typed."""

    seller: str | None
    tids: Sequence[int]
    only: Kind | None
    per_second: int
    dry_run: bool
    wait: bool


async def republish(wish: RepublishRequest) -> int:
    """Request it and show its outcome; 0 when it is done (or was only counted), otherwise 1."""
    kafka, registry = await parts.open_topics()
    async with parts.open_pool() as pool:
        wanted = await _wanted(pool, wish)
        expected = await republications.count(pool, wanted)
        if wish.dry_run:
            counted = _counted(expected)
            terminal.say(f"to be published again: {counted}, {_takes(expected, wish)}")
            return 0
        # Note present losses before the request: when the republication ends, they are known to be repaired.
        with reaching(topics.SERVER, (PublishError, TimeoutError)):
            await TopicWatch(pool, kafka, registry).look()
        id_ = uuid4().hex[:12]
        try:
            await republications.request(
                pool,
                id_,
                wanted,
                expected=expected,
                per_second=wish.per_second,
                partitions=range(registry.changes.partitions),
            )
        except UnderWayError:
            other = await republications.under_way(pool)
            raise RepublishError(
                f"republication {other} is under way: wait for it with `topsync republish --id {other}`, "
                f"or end it with `topsync republish --id {other} --cancel`"
            ) from None
        terminal.say(f"republication {id_}: {_counted(expected)}, {_takes(expected, wish)}")
        return await _follow(pool, id_, wait=wish.wait)


async def follow(id_: str, *, cancel: bool, wait: bool) -> int:
    """Show a republication, and wait for its end or cancel it; 0 when all went well."""
    async with parts.open_pool() as pool:
        await _get(pool, id_)
        if cancel:
            await republications.cancel(pool, id_)
            terminal.say(_in_words(await _get(pool, id_)))
            return 0
        return await _follow(pool, id_, wait=wait)


async def losses(pool: Pool) -> list[str]:
    """What is wrong with the compacted topics: a line each."""
    return [str(loss) for loss in await compacted_topics.losses(pool)]


async def under_way(pool: Pool) -> str | None:
    """The republication that is under way, in words."""
    id_ = await republications.under_way(pool)
    if id_ is None:
        return None
    republication = await _get(pool, id_)
    done, expected = sum(republication.published.values()), sum(republication.expected.values())
    return f"republication {id_} is under way: {done} of {expected} records"


async def _wanted(pool: Pool, wish: RepublishRequest) -> WantedRepublication:
    which = tuple(Kind) if wish.only is None else (wish.only,)
    if wish.seller is not None and wish.tids:
        raise RepublishError("--seller or --order, not both")
    if wish.tids:
        tids = tuple(dict.fromkeys(wish.tids))
        if unknown := await republications.unknown_orders(pool, tids):
            raise RepublishError(
                f"nothing is stored of {', '.join(map(str, unknown))}: nothing is published again"
            )
        return WantedRepublication(which, tids=tids)
    if wish.seller is None:
        return WantedRepublication(which)
    found = await sellers.find(pool, wish.seller)
    if found is None:
        raise RepublishError(f"no seller {wish.seller}; see `topsync sellers list`")
    if found.state is sellers.SellerState.ERASED:
        raise RepublishError(f"seller {found.seller_id} {found.reason}: there is nothing to publish")
    return WantedRepublication(which, seller_id=found.seller_id)


async def _get(pool: Pool, id_: str) -> Republication:
    found = await republications.get(pool, id_)
    if found is None:
        raise RepublishError(f"no republication {id_}")
    return found


async def _follow(pool: Pool, id_: str, *, wait: bool) -> int:
    try:
        found = await (_wait(pool, id_) if wait else _get(pool, id_))
    except asyncio.CancelledError:
        terminal.say(f"it goes on without this command: `topsync republish --id {id_}` shows how far it is")
        raise
    terminal.say(_in_words(found))
    if found.state is RepublicationState.UNDER_WAY:
        return 0
    for loss in await compacted_topics.losses(pool):
        # E.g. when only a seller's records were published again, or the topic was lost once more.
        if loss.kind in found.kinds:
            terminal.say(str(loss))
    return 0 if found.state is RepublicationState.DONE else 1


async def _wait(pool: Pool, id_: str) -> Republication:
    """Wait until it has ended, with a bar for each topic."""
    loop = asyncio.get_running_loop()
    with Bars(sys.stderr, {"published": "published again"}) as bars:
        found = await _get(pool, id_)
        reports = {kind: bars.reporter(kind.plural) for kind in found.kinds}
        before, moved_at = found.published, loop.time()
        while True:
            for kind, report in reports.items():
                report("published", found.published[kind], found.expected[kind])
            if found.state is not RepublicationState.UNDER_WAY:
                return found
            await asyncio.sleep(POLL_SECONDS)
            found = await _get(pool, id_)
            if found.published != before:
                before, moved_at = found.published, loop.time()
            elif loop.time() - moved_at > QUIET_SECONDS:
                bars.say(f"nothing for {QUIET_SECONDS:g} s: is `topsync enrich` running?")
                moved_at = loop.time()


def _in_words(found: Republication) -> str:
    counts = _counted(found.published)
    if found.ended_at is None:
        expected = _counted(found.expected)
        return f"republication {found.id} is under way: {counts} of {expected}"
    took = _duration((found.ended_at - found.requested_at).total_seconds())
    return f"republication {found.id} is {found.state}: {counts} published again in {took}"


def _counted(counts: Mapping[Kind, int]) -> str:
    return " and ".join(f"{count:,} {kind.plural}" for kind, count in counts.items())


def _takes(expected: Mapping[Kind, int], wish: RepublishRequest) -> str:
    """How long the records take at this rate; the time until the enrichers begin comes in addition."""
    took = _duration(sum(expected.values()) / wish.per_second)
    return f"at {wish.per_second} a second about {took}"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=max(1, round(seconds))))
