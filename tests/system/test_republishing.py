"""P2, P4: the loss of a compacted topic is noticed, and its writers fill it again from the table.

A whole enricher runs, on real servers; the test reads the topics as a subscriber does.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from signal import SIGINT, SIGKILL

import pytest

from consumer.enrich.read.batch import Batch
from consumer.enrich.republishing import Piece
from schemas import cloud_events
from schemas.platform_object import WireForm
from schemas.refund import Refund
from schemas.trade import Trade
from tests.stream.clusters import make_anew
from tests.support import systems
from tests.support.eventually import eventually
from tests.system.test_writer import (
    SELLER,
    TID,
    Installation,
    at,
    batch_of,
    enricher,
    installation,
    publish,
    publish_batch,
    snapshot,
    taking_over,
    trade,
)
from topsync.base import metrics
from topsync.base.failpoints import Point
from topsync.local.arming import POINT_VARIABLE, REACHED_VARIABLE
from topsync.model.compacted_topic import Reason
from topsync.model.kind import Kind
from topsync.operate import installation_commands, republish_command, status_command
from topsync.operate.republish_command import RepublishError, RepublishRequest
from topsync.operate.status_command import StatusWish
from topsync.sellers import status
from topsync.store import compacted_topics, orders, refunds, republications, sellers
from topsync.store.orders import OrderVersion
from topsync.store.refunds import RefundVersion
from topsync.store.republications import RepublicationState
from topsync.stream import records
from topsync.stream.producer import FencedError
from topsync.stream.topics import Topic
from topsync.verify import audit

__all__ = ["installation"]

POINTS_HERE: list[Point] = ["republishing.published", "republishing.noted"]

ORDERS, REFUNDS = 40, 4
PER_SECOND = 20
LIVE_TID = TID + 100
BOUND_SECONDS = 60.0
TIDS = [TID + number for number in range(ORDERS)]

Event = tuple[str, str, str, bytes]
"""What a subscriber has of a record: the event's source and id, its transitions, the value."""


def wish(
    *,
    seller: str | None = None,
    tids: Sequence[int] = (),
    only: Kind | None = None,
    per_second: int = 5000,
    dry_run: bool = False,
) -> RepublishRequest:
    return RepublishRequest(seller, tids, only, per_second, dry_run, wait=True)


@pytest.fixture
async def filled(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """Orders with two versions each, and refunds, stored and published."""
    monkeypatch.setenv("TOPSYNC_TOPIC_WATCH_SECONDS", "0.1")
    epoch = await orders.take_over(installation.pool, 0, "whoever stored it")
    for modified in (1, 2):
        found = [
            OrderVersion(SELLER, Trade.read(trade("stored", tid, modified=modified)), at(9), "push")
            for tid in TIDS
        ]
        await orders.TABLE.upsert(installation.pool, found, partition=0, epoch=epoch)
    of_refunds = [RefundVersion(SELLER, a_refund(number), at(9), "push") for number in range(REFUNDS)]
    await refunds.TABLE.upsert(installation.pool, of_refunds, partition=0, epoch=epoch)
    async with taking_over(installation) as writer:
        await writer.publish_leftovers()
    return installation


def a_refund(number: int) -> WireForm:
    fields = trade("", TIDS[number], modified=2)
    return Refund.read(
        {
            "refund_id": str(number + 1),
            "tid": fields["tid"],
            "oid": fields["tid"],
            "status": "WAIT_SELLER_AGREE",
            "created": fields["created"],
            "modified": fields["modified"],
            "refund_fee": "1.00",
        }
    )


async def events(installation: Installation, topic: Topic) -> dict[int, list[Event]]:
    """All that a new subscriber sees, by key."""
    found: dict[int, list[Event]] = {}
    for record in await systems.records(installation.kafka, topic):
        attributes = cloud_events.attributes(record.headers)
        event = (attributes["source"], attributes["id"], attributes["transitions"], record.value)
        found.setdefault(int(record.key), []).append(event)
    return found


async def reasons(installation: Installation) -> dict[Kind, Reason]:
    return {loss.kind: loss.reason for loss in await compacted_topics.losses(installation.pool)}


@asynccontextmanager
async def live_changes(installation: Installation) -> AsyncIterator[list[int]]:
    """An order that changes all the time; yields its versions so far."""
    made: list[int] = []

    async def go_on() -> None:
        while True:
            number = len(made) + 1
            await publish(
                installation,
                snapshot(installation, f"live {number}", tid=LIVE_TID, modified=number, fetched=number),
            )
            made.append(number)
            await asyncio.sleep(0.1)

    changing = asyncio.create_task(go_on())
    try:
        yield made
    finally:
        changing.cancel()
        with suppress(asyncio.CancelledError):
            await changing


async def test_recreated_topics_are_noticed_reported_and_filled_again_beside_live_changes(
    filled: Installation, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = filled.topics
    before = {topic.name: await events(filled, topic) for topic in (topics.orders, topics.refunds)}
    async with enricher():
        await eventually(lambda: has_been_looked_at(filled))
        for topic in (topics.orders, topics.refunds):
            await make_anew(filled.kafka, topic)
        await eventually(lambda: both_are_lost(filled))
        (stands,) = await status.of_all(filled.pool)
        assert stands.doubts >= 2
        monkeypatch.setattr(audit, "WITNESS_WAIT_SECONDS", 0.0)
        for says_so in (status_command.status(StatusWish()), installation_commands.audit(settle_seconds=0)):
            # The platform does not have these orders, so the audit is not clean in any case.
            assert await says_so == 1
            shown = capsys.readouterr().out
            for kind in Kind:
                assert f"the topic {kind.plural} was deleted and made anew: run `topsync republish`" in shown
        assert all(metrics.TOPIC_LOST.labels(kind.plural)._value.get() == 1 for kind in Kind)

        async with live_changes(filled) as made:
            began, versions = time.monotonic(), len(made)
            assert await republish_command.republish(wish(per_second=PER_SECOND)) == 0
            took = time.monotonic() - began
            assert took >= (ORDERS + REFUNDS) / PER_SECOND - 1, "the first piece comes at once"
            assert len(made) > versions
        await eventually(lambda: is_published_as(filled, f"{LIVE_TID}:{len(made)}"))
        assert await reasons(filled) == {}
        await eventually(no_alarm)

    for topic in (topics.orders, topics.refunds):
        after = await events(filled, topic)
        live = [int(id_.partition(":")[2]) for _, id_, *_ in after.pop(LIVE_TID, [])]
        assert live == sorted(live), "nothing goes backwards"
        assert after == {key: seen[-1:] for key, seen in before[topic.name].items()}, "the very same events"
    assert "is done" in capsys.readouterr().out


async def has_been_looked_at(installation: Installation) -> bool:
    return len(await compacted_topics.last_looks(installation.pool)) == len(Kind)


async def both_are_lost(installation: Installation) -> bool:
    return await reasons(installation) == dict.fromkeys(Kind, Reason.MADE_ANEW)


async def no_alarm() -> bool:
    return not any(metrics.TOPIC_LOST.labels(kind.plural)._value.get() for kind in Kind)


async def is_published_as(installation: Installation, id_: str) -> bool:
    found = await events(installation, installation.topics.orders)
    return any(event[1] == id_ for seen in found.values() for event in seen)


@pytest.mark.parametrize(
    "point", [pytest.param(POINTS_HERE[0], marks=pytest.mark.at_length), *POINTS_HERE[1:]]
)
async def test_a_republication_goes_on_where_its_writer_was_killed(
    filled: Installation, point: Point, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {key: seen[-1:] for key, seen in (await events(filled, filled.topics.orders)).items()}
    await make_anew(filled.kafka, filled.topics.orders)
    # Its successor need not wait until the group has noticed.
    monkeypatch.setenv("TOPSYNC_ENRICHER_INSTANCE_ID", "the only enricher")
    reached = tmp_path / "reached"
    asking = asyncio.create_task(republish_command.republish(wish(only=Kind.ORDER, per_second=10)))
    dying = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "topsync", "enrich"),
        env={**os.environ, POINT_VARIABLE: f"{point}:2", REACHED_VARIABLE: str(reached)},
    )
    async with asyncio.timeout(BOUND_SECONDS):
        assert await dying.wait() == -SIGKILL
    assert reached.read_text() == point
    id_ = await republications.under_way(filled.pool)
    assert id_ is not None
    half_way = await republications.get(filled.pool, id_)
    assert half_way is not None
    assert 0 < half_way.published[Kind.ORDER] < ORDERS

    async with enricher(), asyncio.timeout(BOUND_SECONDS):
        assert await asking == 0
    done = await republications.get(filled.pool, id_)
    assert done is not None
    assert (done.state, done.published[Kind.ORDER]) == (RepublicationState.DONE, ORDERS)
    after = await events(filled, filled.topics.orders)
    assert {key: seen[-1:] for key, seen in after.items()} == before
    repeated = sum(len(seen) - 1 for seen in after.values())
    assert repeated == (10 if point == "republishing.published" else 0), "only the piece that was not noted"


async def test_a_former_owner_publishes_nothing_again_and_a_piece_is_never_older_than_the_table(
    installation: Installation,
) -> None:
    piece = Piece(Kind.ORDER, frozenset({TID}))
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(taking_over(installation))
        before = batch_of("before", modified=5)
        await old.store(before)
        await publish_batch(old, before)
        held_back = await old.again(piece)

        new = await stack.enter_async_context(taking_over(installation))
        after = batch_of("after", modified=6)
        await new.store(after)
        found = (await new.again(piece)).versions[Kind.ORDER]
        assert [each.revision for each in found] == [2], "stored, and not published yet"
        await new.note(await new.publish(after, {}, await new.again(piece)))
        with pytest.raises(FencedError):
            await old.publish(Batch(), {}, held_back)
    seen = (await events(installation, installation.topics.orders))[TID]
    assert [id_ for _, id_, *_ in seen] == [f"{TID}:1", f"{TID}:2", f"{TID}:2"]


async def test_an_order_and_a_seller_are_published_alone_and_everything_else_stays_lost(
    filled: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    other = OrderVersion(SELLER + 1, Trade.read(trade("", LIVE_TID, modified=1)), at(9), "push")
    await sellers.add(filled.pool, seller_id=SELLER + 1, nick="another", session_cipher=b"")
    async with enricher():
        await publish(
            filled,
            records.snapshot(
                filled.topics.snapshots.name,
                tid=LIVE_TID,
                seller_id=SELLER + 1,
                as_of=at(9),
                reason="a test",
                value=other.wire.encode(),
            ),
        )
        await eventually(lambda: is_published_as(filled, f"{LIVE_TID}:1"))
        await eventually(lambda: has_been_looked_at(filled))
        await make_anew(filled.kafka, filled.topics.orders)

        assert await republish_command.republish(wish(tids=[TIDS[0], TIDS[7]])) == 0
        assert (await events(filled, filled.topics.orders)).keys() == {TIDS[0], TIDS[7]}
        refunds_again = await events(filled, filled.topics.refunds)
        assert {key: len(seen) for key, seen in refunds_again.items()} == {1: 2, 2: 1, 3: 1, 4: 1}
        assert await republish_command.republish(wish(seller="another", only=Kind.ORDER)) == 0
        assert (await events(filled, filled.topics.orders)).keys() == {TIDS[0], TIDS[7], LIVE_TID}
    assert await reasons(filled) == {Kind.ORDER: Reason.MADE_ANEW}
    assert "the topic orders was deleted and made anew: run `topsync republish`" in capsys.readouterr().out


async def test_a_dry_run_counts_and_changes_nothing(
    filled: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    await make_anew(filled.kafka, filled.topics.orders)
    assert await republish_command.republish(wish(per_second=4, dry_run=True)) == 0
    shown = capsys.readouterr().out
    assert f"{ORDERS} orders and {REFUNDS} refunds, at 4 a second about 0:00:11" in shown
    assert await republications.under_way(filled.pool) is None
    assert await compacted_topics.last_looks(filled.pool) == {}
    assert await events(filled, filled.topics.orders) == {}


async def test_an_unknown_seller_or_order_is_refused_in_a_line_and_nothing_is_begun(
    filled: Installation,
) -> None:
    for wanted, why in (
        (wish(seller="nobody"), "no seller nobody; see `topsync sellers list`"),
        (wish(tids=[TID, 17, 18]), "nothing is stored of 17, 18"),
        (wish(seller="a seller", tids=[TID]), "--seller or --order"),
    ):
        with pytest.raises(RepublishError, match=why):
            await republish_command.republish(wanted)
    with pytest.raises(RepublishError, match="no republication x"):
        await republish_command.follow("x", cancel=False, wait=True)
    assert await republications.under_way(filled.pool) is None


async def test_an_interrupted_command_is_found_again_and_can_be_ended(
    filled: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    """No enricher runs, so the command would wait for ever."""
    command = (sys.executable, "-m", "topsync", "republish")
    pipe = asyncio.subprocess.PIPE
    waiting = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    assert waiting.stdout is not None
    async with asyncio.timeout(BOUND_SECONDS):
        first = (await waiting.stdout.readline()).decode()
        waiting.send_signal(SIGINT)
        shown, errors = (text.decode() for text in await waiting.communicate())
    id_ = await republications.under_way(filled.pool)
    assert first.startswith(f"republication {id_}: {ORDERS} orders and {REFUNDS} refunds")
    assert f"it goes on without this command: `topsync republish --id {id_}`" in shown
    assert "Traceback" not in errors
    assert waiting.returncode not in (0, None)
    with pytest.raises(RepublishError, match=f"republication {id_} is under way"):
        await republish_command.republish(wish())
    await status_command.status(StatusWish())
    assert f"republication {id_} is under way: 0 of {ORDERS + REFUNDS} records" in capsys.readouterr().out
    assert await republish_command.follow(id_ or "", cancel=False, wait=False) == 0
    assert await republish_command.follow(id_ or "", cancel=True, wait=True) == 0
    assert "is cancelled" in capsys.readouterr().out
    assert await republications.under_way(filled.pool) is None
