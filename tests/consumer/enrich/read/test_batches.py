"""Reading a batch over a real gateway and a real database: what is fetched, skipped, set aside or raised."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import orjson
import pytest
from aiohttp import web
from aiokafka import ConsumerRecord
from pydantic import SecretStr

from consumer.enrich.backlog import Backlog
from consumer.enrich.dead_letter_share import RecordOutcome, outcome_of
from consumer.enrich.read import served
from consumer.enrich.read.batch import Batch
from consumer.enrich.read.batches import BatchReader
from consumer.enrich.read.bringing import POSTPONED_FOR
from schemas import cloud_events, platform_time
from schemas.change import Change, Source
from schemas.read_before import ReadBefore
from schemas.trade import Trade
from schemas.types import parse_instant
from tests.budget.gates import local_gate
from tests.platforms.taobao.gateway import (
    APP_KEY,
    APP_SECRET,
    SESSION,
    Gateway,
    Step,
    answers,
    answers_error,
    error,
    ok,
    raw,
    serving,
)
from tests.store.databases import SELLER, at, emptied, platform_trade, version
from tests.support import reading
from tests.support.cases import case
from topsync.base import retry
from topsync.base.clock import ServerClock
from topsync.base.settings import KafkaSettings, VaultSettings
from topsync.base.vault import Vault, new_key
from topsync.budget.errors import CallLimitedError
from topsync.model.kind import Kind
from topsync.model.refetch import BACKLOG, LINGERING, UNREADABLE_SNAPSHOT, Refetch
from topsync.platforms.port import ApplicationRefusedError
from topsync.platforms.taobao.details import TaobaoDetails
from topsync.platforms.taobao.gateway.client import GatewayConfig, TopClient
from topsync.platforms.taobao.gateway.errors import (
    RequestRefusedError,
    ServiceUnavailableError,
)
from topsync.sellers import sessions
from topsync.sellers.sessions import Sessions
from topsync.store import orders, refetches, sellers
from topsync.store.database import Pool
from topsync.store.sellers import SellerState
from topsync.stream import records, topics
from topsync.stream.records import Record

TID = 4000000000000000101
PARTITIONS = 4
RECEIVER = "王*"
CREATED = "taobao_trade_TradeCreate"
LINGER_TIMES = {CREATED: timedelta(seconds=60)}


class ShopGateway(Gateway):
    """Answers `trade_fullinfo` and `refund_get` by id: as the script says, or with what it has."""

    def __init__(self) -> None:
        super().__init__()
        self.trades: dict[int, dict[str, object]] = {}
        self.refunds: dict[int, dict[str, object]] = {}
        self.steps: dict[int, list[Step]] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.script.clear()
        self.script.append(self._answer)
        return await super().handle(request)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        of_refund = "refund_id" in form
        tid = int(str(form["refund_id" if of_refund else "tid"]))
        steps = self.steps.get(tid)
        if steps:
            return await (steps.pop(0) if len(steps) > 1 else steps[0])(request)
        if of_refund:
            known = self.refunds.get(tid)
            return ok("refund_get", {"refund": known}) if known else error(15, "isv.refund-not-exist")
        if tid not in self.trades:
            return error(15, "isv.trade-not-exist")
        return ok("trade_fullinfo_get", {"trade": self.trades[tid]})

    @property
    def fetched(self) -> list[int]:
        return [int(seen.form["tid"]) for seen in self.calls("taobao.trade.fullinfo.get")]

    @property
    def refunds_fetched(self) -> list[int]:
        return [int(seen.form["refund_id"]) for seen in self.calls("taobao.refund.get")]


@dataclass
class Shop:
    """A reader with everything around it."""

    gateway: ShopGateway
    pool: Pool
    reader: BatchReader
    registry: topics.Registry
    clock: ServerClock
    offset: int = 0

    async def read(
        self,
        *taken: ConsumerRecord[bytes, bytes],
        reader: BatchReader | None = None,
        backlog: Backlog | None = None,
        unread: int = 0,
    ) -> Batch:
        """All that the records ask for."""
        batch = Batch()
        async for part in (reader or self.reader).read(taken, backlog=backlog, unread=unread):
            batch.join(part)
        return batch

    def received(self, record: Record, *, partition: int | None = None) -> ConsumerRecord[bytes, bytes]:
        """The record as a consumer gets it."""
        self.offset += 1
        if partition is None:
            partition = records.partition_of(int(record.key or b"0"), PARTITIONS)
        value = record.value
        return ConsumerRecord(
            record.topic, partition, self.offset, 0, 0, record.key, value, None, 0, 0, tuple(record.headers)
        )

    def hint(
        self,
        tid: int = TID,
        *,
        settled: datetime | None = None,
        modified: datetime | None = None,
        **fields: object,
    ) -> ConsumerRecord[bytes, bytes]:
        now = self.clock.now()
        change = Change.model_validate(
            {
                "seller_id": SELLER,
                "tid": tid,
                "event": "x",
                "occurred_at": now,
                "settled_after": settled or now,
                "modified": modified,
                "received_at": now,
                "source": Source.PUSH,
                **fields,
            }
        )
        return self.received(records.change(self.registry.changes.name, change))

    def snapshot(
        self,
        tid: int = TID,
        *,
        as_of: float = 0,
        trade: object = None,
        read_before: ReadBefore | None = None,
    ) -> ConsumerRecord[bytes, bytes]:
        body = trade if isinstance(trade, bytes) else orjson.dumps(trade or platform_trade(tid))
        return self.received(
            records.snapshot(
                self.registry.snapshots.name,
                tid=tid,
                seller_id=SELLER,
                as_of=at(as_of),
                reason="export 1",
                value=body,
                read_before=read_before,
            )
        )


@pytest.fixture
async def shop(migrated_database_url: str) -> AsyncIterator[Shop]:
    gateway, clock = ShopGateway(), ServerClock()
    vault = Vault(VaultSettings(token_keys=SecretStr(new_key())))
    kafka = KafkaSettings(kafka_bootstrap_servers="unused:1", topic_prefix="t", partitions=PARTITIONS)
    registry = topics.registry(kafka)
    async with serving(gateway.handle, "/router/rest") as address, emptied(migrated_database_url) as pool:
        for seller_id, nick in ((SELLER, "demo_one"), (SELLER + 1, "demo_two")):
            cipher = vault.encrypt(SecretStr(SESSION))
            await sellers.add(pool, seller_id=seller_id, nick=nick, session_cipher=cipher)
        config = GatewayConfig(
            url=f"{address}/router/rest",
            app_key=APP_KEY,
            app_secret=SecretStr(APP_SECRET),
            retries=retry.Policy(max_attempts=2, first_wait_seconds=0.01),
            max_inline_wait_seconds=0.0,
        )
        async with TopClient(config, clock, local_gate()) as client:
            await client.sync_clock()
            reader = reading.reader(pool, TaobaoDetails(client), clock, Sessions(pool, vault), registry)
            yield Shop(gateway, pool, reader, registry, clock)


def dead(batch: Batch) -> dict[str, bytes | None]:
    """The dead letters of a batch: reason and original."""
    found = [letter.record for letter in batch.dead_letters]
    return {cloud_events.attributes(letter.headers)["reason"]: letter.value for letter in found}


async def test_all_hints_of_an_order_cost_one_call_and_give_one_version(shop: Shop) -> None:
    shop.gateway.trades[TID] = platform_trade(TID, receiver_name=RECEIVER)
    before = shop.clock.now()
    batch = await shop.read(shop.hint(), shop.hint(), shop.hint(source=Source.SWEEP))
    assert shop.gateway.fetched == [TID]
    found = batch.of(Kind.ORDER).versions[TID]
    assert (found.seller_id, found.tid, found.source) == (SELLER, TID, "push")
    assert before <= found.fetched_at <= shop.clock.now()
    assert batch.tids == {TID}
    assert batch.journeys.keys() == {TID}
    assert batch.dead_letters == []


async def test_of_several_messages_the_times_of_the_first_are_noted_with_its_kafka_time(
    shop: Shop,
) -> None:
    shop.gateway.trades[TID] = platform_trade(TID)
    now_ms = int(time.time() * 1000)
    ages_ms = [300, 20, 5000]
    sources = [Source.PUSH, Source.PUSH, Source.SWEEP]
    hints = [
        replace(shop.hint(source=source), timestamp=now_ms - age_ms)
        for age_ms, source in zip(ages_ms, sources, strict=True)
    ]
    journey = (await shop.read(*hints)).journeys[TID]
    assert 300 <= (journey.taken_at - journey.in_kafka_at) / timedelta(milliseconds=1) < 5000


async def test_a_broker_whose_clock_is_ahead_has_no_record_after_it_was_taken(shop: Shop) -> None:
    shop.gateway.trades[TID] = platform_trade(TID)
    ahead = replace(shop.hint(), timestamp=int(time.time() * 1000) + 60_000)
    journey = (await shop.read(ahead)).journeys[TID]
    assert journey.in_kafka_at == journey.taken_at


async def test_a_version_continues_the_trace_of_the_last_record_about_it(shop: Shop) -> None:
    for tid in (TID, TID + 4):
        shop.gateway.trades[tid] = platform_trade(tid)
    hints, snapshot = [shop.hint(), shop.hint(), shop.hint(TID + 4)], shop.snapshot(TID + 8)
    strange = shop.received(Record(snapshot.topic, b"", b"not json", [("ce_traceparent", None)]))  # type: ignore[list-item]
    batch = await shop.read(*hints, snapshot, strange)
    last = {TID: hints[1], TID + 4: hints[2], TID + 8: snapshot}
    assert batch.traces == {tid: cloud_events.traceparent(record.headers) for tid, record in last.items()}


async def test_what_is_stored_already_costs_no_call_but_is_still_looked_at_for_publishing(shop: Shop) -> None:
    epoch = await orders.take_over(shop.pool, 0, "test")
    await orders.TABLE.upsert(shop.pool, [version(TID, 1, 100)], partition=0, epoch=epoch)
    batch = await shop.read(shop.hint(settled=at(100)), shop.hint(settled=at(99), modified=at(1)))
    assert shop.gateway.fetched == []
    assert batch.of(Kind.ORDER).versions == {}
    assert batch.tids == {TID}


async def test_a_detail_older_than_what_the_list_showed_is_postponed_and_never_stored(shop: Shop) -> None:
    """Waiting for it here would hold up every other order of the partition."""
    shop.gateway.trades[TID] = platform_trade(TID, 0)
    shop.gateway.trades[TID + 4] = platform_trade(TID + 4)
    batch = await shop.read(shop.hint(modified=at(5), source=Source.SWEEP), shop.hint(TID + 4))
    assert batch.of(Kind.ORDER).versions.keys() == {TID + 4}
    assert batch.dead_letters == []
    (later,) = batch.postponed
    assert (later.tid, later.seller_id, later.reason) == (TID, SELLER, "detail_behind")
    assert (later.modified, later.source, later.attempts) == (at(5), "sweep", 0)
    assert shop.gateway.fetched.count(TID) == 1
    seen = shop.reader.bringer.sightings
    assert (seen.details, seen.behind) == (2, 1)


async def test_an_order_that_the_platform_does_not_know_is_postponed(shop: Shop) -> None:
    """The message about a fresh order may come before its detail is there."""
    batch = await shop.read(shop.hint(settled=at(3), occurred_at=at(2)))
    assert batch.dead_letters == []
    (later,) = batch.postponed
    assert (later.reason, later.settled_after, later.modified) == ("not_there", at(3), None)
    assert (later.event, later.occurred_at, later.source) == ("x", at(2), "push")


async def test_a_message_that_brings_only_what_was_known_is_asked_about_again(shop: Shop) -> None:
    """Where the message promised no `modified`, this is the only sign of a stale detail."""
    epoch = await orders.take_over(shop.pool, 0, "test")
    await orders.TABLE.upsert(shop.pool, [version(TID, 1, 2)], partition=0, epoch=epoch)
    shop.gateway.trades[TID] = platform_trade(TID, 1)
    batch = await shop.read(shop.hint(occurred_at=at(9)))
    (later,) = batch.postponed
    assert (later.reason, later.occurred_at) == ("no_news", at(9))
    found = batch.of(Kind.ORDER).versions[TID]
    assert later.settled_after == found.fetched_at + POSTPONED_FOR, "only a later fetch can answer"
    seen = shop.reader.bringer.sightings
    assert (seen.details, seen.behind) == (1, 1)

    shop.gateway.trades[TID] = platform_trade(TID, 9)
    assert (await shop.read(shop.hint(occurred_at=at(9)))).postponed == []


async def test_an_outage_of_one_seller_postpones_its_orders_and_holds_up_nobody(shop: Shop) -> None:
    shop.gateway.steps[TID] = [answers_error(15, "isp.remote-service-timeout")]
    shop.gateway.trades[TID + 4] = platform_trade(TID + 4)
    batch = await shop.read(shop.hint(), shop.hint(TID + 4, seller_id=SELLER + 1))
    assert batch.of(Kind.ORDER).versions.keys() == {TID + 4}
    assert [(later.tid, later.reason) for later in batch.postponed] == [(TID, "platform_unavailable")]
    assert batch.dead_letters == []

    alone = await shop.read(shop.hint())
    assert [later.tid for later in alone.postponed] == [TID], "others have just been served"


async def test_when_nobody_has_been_served_for_a_while_the_batch_waits(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise an outage of the platform would turn the whole topic into refetches."""
    monkeypatch.setattr(served, "SERVED_LATELY_SECONDS", 0.0)
    shop.gateway.trades[TID + 4] = platform_trade(TID + 4)
    await shop.read(shop.hint(TID + 4))
    shop.gateway.steps[TID] = [answers_error(15, "isp.remote-service-timeout")]
    with pytest.raises(ExceptionGroup) as failed:
        await shop.read(shop.hint())
    assert failed.value.subgroup(ServiceUnavailableError) is not None


@pytest.mark.parametrize("code", [26, 27])
async def test_a_refused_session_parks_the_sellers_orders_and_spares_everybody_else(
    shop: Shop, code: int
) -> None:
    shop.gateway.steps[TID] = [answers_error(code, "session-expired")]
    shop.gateway.trades[TID + 1] = platform_trade(TID + 1)
    batch = await shop.read(shop.hint(), shop.hint(TID + 1, seller_id=SELLER + 1))
    assert batch.of(Kind.ORDER).versions.keys() == {TID + 1}
    assert [(later.tid, later.reason) for later in batch.postponed] == [(TID, "session_refused")]
    expired, other = await sellers.all_of(shop.pool)
    assert (expired.state, other.state) == (SellerState.EXPIRED, SellerState.NEW)
    again = await shop.read(shop.hint())
    assert [(later.tid, later.reason) for later in again.postponed] == [(TID, "no_session")]
    assert shop.gateway.fetched.count(TID) == 1, "no call is made with a session that was refused"
    assert batch.dead_letters == again.dead_letters == []


async def test_a_session_that_was_refreshed_meanwhile_is_taken_in_the_same_batch(shop: Shop) -> None:
    shop.gateway.trades[TID + 1] = platform_trade(TID + 1)
    await shop.read(shop.hint(TID + 1))  # the old session is held from here on
    seller = await sellers.get(shop.pool, SELLER)
    assert seller is not None
    await sellers.add(shop.pool, seller_id=SELLER, nick=seller.nick, session_cipher=seller.session_cipher)
    answer = shop.gateway.steps[TID] = [answers_error(27, "session-expired")]

    async def answers_the_trade(_: web.Request) -> web.StreamResponse:
        return ok("trade_fullinfo_get", {"trade": platform_trade(TID)})

    answer.append(answers_the_trade)
    batch = await shop.read(shop.hint())
    assert batch.of(Kind.ORDER).versions.keys() == {TID}
    assert not batch.dead_letters
    refreshed = await sellers.get(shop.pool, SELLER)
    assert refreshed is not None
    assert refreshed.state is SellerState.NEW


async def test_a_paused_seller_is_waited_for_and_an_unknown_one_is_not(shop: Shop) -> None:
    await sellers.pause(shop.pool, SELLER, "a test")
    batch = await shop.read(shop.hint(), shop.hint(TID + 1, seller_id=999))
    assert [(later.tid, later.reason) for later in batch.postponed] == [(TID, "no_session")]
    assert dead(batch).keys() == {"unknown_seller"}
    assert batch.given_up.keys() == {TID + 1}
    assert shop.gateway.fetched == []


async def test_a_seller_that_is_back_is_called_for_although_it_was_away_just_now(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise parked orders would be hinted and parked again, until the held sessions are read anew."""
    monkeypatch.setattr(sessions, "MISS_HELD_SECONDS", 0.0)
    await sellers.pause(shop.pool, SELLER, "a test")
    assert (await shop.read(shop.hint())).postponed
    await sellers.resume(shop.pool, SELLER, "refused meanwhile")
    shop.gateway.trades[TID] = platform_trade(TID)
    assert (await shop.read(shop.hint())).of(Kind.ORDER).versions.keys() == {TID}


async def test_a_seller_that_is_away_is_no_sign_that_the_platform_answers(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, in an outage, an expired seller would turn everybody's changes into refetches."""
    monkeypatch.setattr(served, "SERVED_LATELY_SECONDS", 5.0)
    await sellers.pause(shop.pool, SELLER + 1, "a test")
    shop.gateway.steps[TID] = [answers_error(15, "isp.remote-service-timeout")]
    with pytest.raises(ExceptionGroup):
        await shop.read(shop.hint(), shop.hint(TID + 4, seller_id=SELLER + 1))


@pytest.mark.parametrize(
    ("code", "sub_code"),
    [
        (15, "isv.invalid-permission"),
        (50, "isp.null-pointer-exception"),
        (40, "isv.missing-parameter:tid"),
        (12, None),
        (601, None),
    ],
)
async def test_an_order_that_the_platform_refuses_is_set_aside_and_the_batch_goes_on(
    shop: Shop, code: int, sub_code: str | None
) -> None:
    shop.gateway.steps[TID] = [answers_error(code, sub_code, f"text with {RECEIVER}")]
    shop.gateway.trades[TID + 1] = platform_trade(TID + 1)
    record = shop.hint()
    batch = await shop.read(record, shop.hint(TID + 1))
    assert batch.of(Kind.ORDER).versions.keys() == {TID + 1}
    assert dead(batch) == {"refused": record.value}
    assert batch.given_up.keys() == {TID}, "otherwise it would be refused again and again"
    detail = cloud_events.attributes(batch.dead_letters[0].record.headers)["detail"]
    assert f"code {code}" in detail
    assert RECEIVER not in detail


@pytest.mark.parametrize(
    ("step", "raised"),
    [
        (answers_error(25), ApplicationRefusedError),
        (answers_error(1, "isp.get-app-error"), ApplicationRefusedError),
        (answers_error(11, "isv.permission-api-package-limit"), RequestRefusedError),
        (answers_error(22), RequestRefusedError),
        (
            answers_error(
                7, "accesscontrol.limited-by-app-access-count", "This ban will last for 60 more seconds"
            ),
            CallLimitedError,
        ),
        (answers_error(15, "isp.remote-service-timeout"), ServiceUnavailableError),
    ],
)
async def test_a_failure_that_is_not_the_orders_own_raises_so_that_nothing_is_passed_over(
    shop: Shop, step: Step, raised: type[Exception]
) -> None:
    """Otherwise a wrong secret, a lost right or a ban would turn the whole topic into dead letters."""
    shop.gateway.steps[TID] = [step]
    with pytest.raises(ExceptionGroup) as failed:
        await shop.read(shop.hint())
    assert failed.value.subgroup(raised) is not None


@pytest.mark.parametrize(
    "body",
    [
        b'{"trade_fullinfo_get_response":{"trade":{"tid":1,"status":"X"}}}',
        b'{"trade_fullinfo_get_response":{}}',
    ],
)
async def test_an_answer_without_the_order_is_asked_for_again_and_kept_whole(shop: Shop, body: bytes) -> None:
    shop.gateway.steps[TID] = [answers(lambda: raw(body))]
    batch = await shop.read(shop.hint())
    assert (batch.of(Kind.ORDER).versions, batch.dead_letters) == ({}, [])
    (later,) = batch.postponed
    assert later.reason == "unreadable_answer"
    assert orjson.loads(later.answer or b"") == orjson.loads(body)["trade_fullinfo_get_response"]


@pytest.mark.parametrize("lines", [None, {}, {"order": []}, []], ids=str)
async def test_a_detail_without_lines_is_no_order_and_is_asked_for_again(shop: Shop, lines: object) -> None:
    """If it counted as an order, it would empty the stored order."""
    shop.gateway.trades[TID] = platform_trade(TID, 9, orders=lines)
    batch = await shop.read(shop.hint())
    assert (batch.of(Kind.ORDER).versions, batch.dead_letters) == ({}, [])
    (later,) = batch.postponed
    assert (later.tid, later.reason) == (TID, "incomplete_answer")
    assert orjson.loads(later.answer or b"") == shop.gateway.trades[TID]


async def test_a_detail_without_the_key_of_its_lines_is_asked_for_again(shop: Shop) -> None:
    body = case("fullinfo_without_orders")
    tid = int(orjson.loads(body)["trade_fullinfo_get_response"]["trade"]["tid"])
    shop.gateway.steps[tid] = [answers(lambda: raw(body))]
    batch = await shop.read(shop.hint(tid))
    assert not batch.of(Kind.ORDER).versions
    assert [later.reason for later in batch.postponed] == ["incomplete_answer"]


AHEAD = [timedelta(seconds=10), timedelta(hours=13), timedelta(days=2_900_000)]


@pytest.mark.parametrize("ahead", AHEAD, ids=str)
async def test_a_detail_that_lies_ahead_is_no_version_and_is_asked_for_again(
    shop: Shop, ahead: timedelta
) -> None:
    """If it counted as a version, it would hide each change until then."""
    lie = shop.clock.now() + ahead
    shop.gateway.trades[TID] = {**platform_trade(TID), "modified": platform_time.format(lie)}
    batch = await shop.read(shop.hint())
    assert (batch.of(Kind.ORDER).versions, batch.dead_letters) == ({}, [])
    (later,) = batch.postponed
    assert (later.reason, later.modified) == ("modified_ahead", None)
    assert orjson.loads(later.answer or b"") == shop.gateway.trades[TID]


async def test_an_exported_order_that_lies_ahead_is_asked_for_by_its_id(shop: Shop) -> None:
    lie = platform_time.format(shop.clock.now() + timedelta(hours=13))
    batch = await shop.read(shop.snapshot(trade={**platform_trade(TID), "modified": lie}))
    assert (batch.of(Kind.ORDER).versions, batch.dead_letters) == ({}, [])
    (later,) = batch.postponed
    assert (later.tid, later.reason, later.source) == (TID, "modified_ahead", "bootstrap")


async def test_a_list_that_lies_ahead_promises_nothing(shop: Shop) -> None:
    lie = shop.clock.now() + timedelta(hours=13)
    shop.gateway.trades[TID] = platform_trade(TID)
    batch = await shop.read(shop.hint(modified=lie, source=Source.SWEEP))
    assert batch.of(Kind.ORDER).versions.keys() == {TID}
    assert batch.postponed == []


async def test_an_order_that_stays_unreadable_becomes_a_dead_letter_as_a_whole(
    shop: Shop,
) -> None:
    trade = {**platform_trade(TID), "modified": "soon"}
    body = orjson.dumps({"trade_fullinfo_get_response": {"trade": trade}})
    shop.gateway.steps[TID] = [answers(lambda: raw(body))]
    batch = await shop.read(shop.hint())
    assert (batch.of(Kind.ORDER).versions, batch.postponed) == ({}, [])
    ((reason, original),) = dead(batch).items()
    assert reason == "unreadable_answer"
    assert orjson.loads(original or b"") == trade


async def test_a_number_beyond_64_bits_in_such_an_order_stops_nobody(shop: Shop) -> None:
    trade = b'{"tid":%d,"odd":%d}' % (TID, 10**30)
    body = b'{"trade_fullinfo_get_response":{"trade":%s}}' % trade
    shop.gateway.steps[TID] = [answers(lambda: raw(body))]
    (later,) = (await shop.read(shop.hint())).postponed
    assert (later.reason, later.answer) == ("incomplete_answer", trade)


async def test_broken_json_is_kept_byte_for_byte_and_never_shown(shop: Shop) -> None:
    shop.gateway.steps[TID] = [answers(lambda: raw(b"<html>\xff not JSON</html>"))]
    (later,) = (await shop.read(shop.hint())).postponed
    assert later.answer == b"<html>\xff not JSON</html>"
    assert "html" not in repr(later)


async def test_a_snapshot_is_stored_as_it_is_without_a_call(shop: Shop) -> None:
    batch = await shop.read(shop.snapshot(as_of=7))
    assert shop.gateway.fetched == []
    found = batch.of(Kind.ORDER).versions[TID]
    assert (found.seller_id, found.fetched_at, found.source) == (SELLER, at(7), "bootstrap")


async def test_a_snapshot_that_was_read_before_is_written_as_one_that_is_read_here(shop: Shop) -> None:
    raw = platform_trade(TID, nobody_asked_for="this")
    form = Trade.read(raw)
    batch = await shop.read(shop.snapshot(trade=raw))
    known = ReadBefore.of(form)._replace(content_hash=b"as it was found out")
    before = await shop.read(shop.snapshot(trade=form.text.encode(), read_before=known))
    here, handed_on = (each.of(Kind.ORDER).versions[TID] for each in (batch, before))
    assert handed_on == here
    assert handed_on.may_be_odd
    assert handed_on.content_hash == b"as it was found out"


async def test_a_change_does_not_wait_while_snapshots_of_another_partition_are_read(shop: Shop) -> None:
    shop.gateway.trades[TID] = platform_trade(TID)
    async with shop.reader._snapshots_in_turn, asyncio.timeout(20):
        batch = await shop.read(shop.hint())
    assert batch.of(Kind.ORDER).versions.keys() == {TID}


async def test_of_two_snapshots_of_one_order_the_newer_is_written_in_either_order(shop: Shop) -> None:
    old, new = (shop.snapshot(trade=platform_trade(TID, modified)) for modified in (1, 2))
    for taken in ((old, new), (new, old)):
        batch = await shop.read(*taken)
        assert batch.of(Kind.ORDER).versions[TID].modified == at(2)


DEEP = orjson.dumps(platform_trade(TID))[:-1] + b',"odd":' + b"[" * 600 + b"]" * 600 + b"}"


@pytest.mark.parametrize("broken", [b"not json", b"[]", b"{}", b'{"tid":1}', DEEP], ids=range(5))
async def test_an_order_whose_snapshot_cannot_be_read_is_asked_for_by_its_id(
    shop: Shop, broken: bytes
) -> None:
    batch = await shop.read(shop.snapshot(trade=broken, as_of=7), shop.snapshot(TID + 4))
    assert batch.of(Kind.ORDER).versions.keys() == {TID + 4}
    (wanted,) = batch.postponed
    assert (wanted.tid, wanted.seller_id, wanted.reason) == (TID, SELLER, UNREADABLE_SNAPSHOT)
    assert wanted.settled_after == at(7)
    assert dead(batch) == {}


async def test_an_order_is_asked_for_by_its_id_where_a_snapshot_says_wrongly_that_it_was_read(
    shop: Shop,
) -> None:
    known = ReadBefore.of(Trade.read(platform_trade(TID)))
    batch = await shop.read(shop.snapshot(trade=b"{}", read_before=known))
    (wanted,) = batch.postponed
    assert (wanted.tid, wanted.reason) == (TID, UNREADABLE_SNAPSHOT)
    assert not batch.of(Kind.ORDER).versions


@pytest.mark.parametrize("missing", ["ce_sellerid", "ce_time"])
async def test_a_snapshot_that_does_not_say_whose_it_is_or_when_it_was_taken_is_set_aside(
    shop: Shop, missing: str
) -> None:
    record = shop.snapshot()
    headers = [(name, value) for name, value in record.headers if name != missing]
    batch = await shop.read(shop.received(Record(record.topic, record.key, record.value, headers)))
    assert dead(batch) == {"unreadable_snapshot": record.value}
    assert not batch.of(Kind.ORDER).versions


@pytest.mark.parametrize("value", [None, b"", b"not json", b"{}", b'{"tid":"secret"}'])
async def test_a_change_that_cannot_be_read_is_set_aside_whole_and_its_values_not_shown(
    shop: Shop, value: bytes | None
) -> None:
    record = shop.received(Record(shop.registry.changes.name, b"1", value, [("ce_id", b"7")]))
    batch = await shop.read(record)
    assert dead(batch) == {"unreadable_change": value}
    letter = batch.dead_letters[0].record
    assert ("original_ce_id", b"7") in letter.headers
    assert "secret" not in cloud_events.attributes(letter.headers)["detail"]
    assert letter.key == record.key


async def test_a_record_in_another_partition_than_its_order_is_not_written_here(shop: Shop) -> None:
    """Under a wrong key the order would have two writers."""
    wrong = (records.partition_of(TID, PARTITIONS) + 1) % PARTITIONS
    shop.gateway.trades[TID] = platform_trade(TID)
    for record in (shop.hint(), shop.snapshot()):
        misplaced = shop.received(
            Record(record.topic, record.key, record.value, list(record.headers)), partition=wrong
        )
        batch = await shop.read(misplaced)
        assert dead(batch) == {"wrong_partition": record.value}
        assert not batch.of(Kind.ORDER).versions
        assert not batch.tids
    assert shop.gateway.fetched == []


async def test_a_dead_letter_says_where_its_record_came_from(shop: Shop) -> None:
    record = shop.received(Record(shop.registry.changes.name, records.key_of(TID), b"not json", []))
    letter = (await shop.read(record)).dead_letters[0].record
    attributes: Mapping[str, str] = cloud_events.attributes(letter.headers)
    assert attributes["source"] == f"/topsync/enricher/{record.topic}/{record.partition}/{record.offset}"
    assert abs(parse_instant(attributes["time"]) - shop.clock.now()) < timedelta(seconds=60)
    assert timedelta(seconds=1) == platform_time.RESOLUTION


async def test_the_outcome_of_each_record_counts_for_its_seller_in_the_limit(shop: Shop) -> None:
    """A seller that is away, or was never added, does not mean that we are the cause."""
    await sellers.pause(shop.pool, SELLER + 1, "a test")
    shop.gateway.trades[TID] = platform_trade(TID)
    shop.gateway.steps[TID + 1] = [answers_error(15, "isv.invalid-permission")]
    epoch = await orders.take_over(shop.pool, 0, "test")
    await orders.TABLE.upsert(shop.pool, [version(TID + 2, 1, 100)], partition=0, epoch=epoch)
    batch = await shop.read(
        shop.hint(TID),
        shop.hint(TID),
        shop.hint(TID + 1),
        shop.hint(TID + 2, settled=at(100)),
        shop.hint(TID + 3, seller_id=SELLER + 1),
        shop.hint(TID + 4, seller_id=999),
        shop.hint(TID + 5),  # not there yet: postponed
        shop.snapshot(TID + 6),
        shop.snapshot(TID + 7, trade=b"not json"),  # asked for by its id
        shop.received(Record(shop.registry.changes.name, b"1", b"not json", [])),
    )
    dying = [outcome for letter in batch.take_dead_letters() if (outcome := outcome_of(letter))]
    assert Counter(batch.take_outcomes() + dying) == Counter(
        [
            *[RecordOutcome(SELLER)] * 4,
            RecordOutcome(SELLER, "refused"),
            RecordOutcome(None, "unreadable_change"),
        ]
    )
    assert batch.take_outcomes() == []


async def test_a_reader_that_is_behind_notes_late_changes_and_fetches_fresh_ones(shop: Shop) -> None:
    backlog = Backlog(1, timedelta(seconds=10))
    late = shop.clock.now() - timedelta(seconds=11)
    for tid in (TID, TID + 4):
        shop.gateway.trades[tid] = platform_trade(tid)
    taken = [shop.hint(received_at=late, occurred_at=at(2)), shop.hint(TID + 4)]
    batch = await shop.read(*taken, backlog=backlog, unread=2)
    assert shop.gateway.fetched == [TID + 4]
    (waiting,) = batch.postponed
    assert (waiting.tid, waiting.reason, waiting.occurred_at) == (TID, BACKLOG, at(2))
    assert (await shop.read(*taken[:1], backlog=backlog, unread=0)).postponed == [waiting]


async def test_a_pull_adds_its_promise_to_an_order_of_the_backlog_and_costs_no_call(shop: Shop) -> None:
    in_backlog = Refetch(TID, SELLER, "x", at(0), at(1), None, "push", BACKLOG)
    await refetches.postpone(shop.pool, [in_backlog], wait=timedelta(0))
    batch = await shop.read(shop.hint(modified=at(5), source=Source.SWEEP))
    assert shop.gateway.fetched == []
    (waiting,) = batch.postponed
    assert (waiting.reason, waiting.modified) == (BACKLOG, at(5))


async def test_a_snapshot_is_written_with_the_source_that_found_the_order(shop: Shop) -> None:
    record = records.snapshot(
        shop.registry.snapshots.name,
        tid=TID,
        seller_id=SELLER,
        as_of=at(3),
        reason="details 1",
        value=orjson.dumps(platform_trade(TID)),
        found_by=Source.SWEEP,
    )
    batch = await shop.read(shop.received(record), shop.snapshot(TID + 4))
    sources = {tid: found.source for tid, found in batch.of(Kind.ORDER).versions.items()}
    assert sources == {TID: "sweep", TID + 4: "bootstrap"}


async def test_lingering_messages_are_noted_and_cost_no_call_yet(shop: Shop) -> None:
    reader = replace(shop.reader, linger=LINGER_TIMES)
    first, last = shop.clock.now() - timedelta(seconds=10), shop.clock.now() - timedelta(seconds=5)
    batch = await shop.read(
        shop.hint(event=CREATED, occurred_at=first),
        shop.hint(event=CREATED, occurred_at=last),
        shop.hint(TID + 4, event=CREATED, source=Source.SWEEP),
        shop.hint(TID + 8, event=CREATED),
        shop.hint(TID + 8, event="taobao_trade_TradeBuyerPay"),
        reader=reader,
    )
    assert sorted(shop.gateway.fetched) == [TID + 4, TID + 8]
    (lingering,) = batch.lingering
    assert (lingering.order.tid, lingering.order.reason) == (TID, LINGERING)
    assert lingering.order.occurred_at == last, "a state from before the last message answers none of it"
    assert lingering.until == first + LINGER_TIMES[CREATED]


async def test_a_lingering_message_does_not_wait_for_the_backlog(shop: Shop) -> None:
    late = Refetch(TID, SELLER, "x", at(1), at(2), None, "push", BACKLOG)
    await refetches.postpone(shop.pool, [late], wait=timedelta(0))
    reader = replace(shop.reader, linger=LINGER_TIMES)
    batch = await shop.read(shop.hint(event=CREATED), reader=reader)
    assert shop.gateway.fetched == [TID]
    assert not batch.lingering
