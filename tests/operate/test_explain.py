"""The story of an order in each standing, with a real PostgreSQL and a real Kafka."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from aiokafka import TopicPartition

from schemas import platform_time
from schemas.change import Change, Source
from schemas.erasure import Erasure
from schemas.events import ORDERS
from schemas.trade import Trade
from tests.store.databases import SELLER, emptied, platform_trade
from tests.stream.clusters import create_topics
from topsync.base.settings import KafkaSettings
from topsync.model.compacted_topic import Finder, Reason
from topsync.model.kind import Kind
from topsync.model.refetch import BACKLOG, LINGERING, NO_SESSION, Lingering, Refetch
from topsync.model.span import Span
from topsync.operate import explain
from topsync.operate.explain import ExplainRequest, NoSellerError
from topsync.store import (
    compacted_topics,
    coverage,
    dead_letters,
    detail_tasks,
    erasures,
    open_letters,
    orders,
    refetches,
    sellers,
)
from topsync.store.coverage import PulledWindow
from topsync.store.database import Pool
from topsync.store.open_letters import OpenDeadLetter, Subject
from topsync.store.orders import OrderVersion, UnpublishedOrder
from topsync.stream import clients, records
from topsync.stream import producer as producers
from topsync.stream.records import Record
from topsync.stream.topics import Registry

TID = 4000000000000000101
RECEIVER = "王小明"
GROUP = "the-enrichers"
MESSAGE = "taobao_trade_TradeBuyerPay"


@dataclass
class Installation:
    """The servers for the command, which takes everything from the environment."""

    pool: Pool
    kafka: KafkaSettings
    registry: Registry
    capsys: pytest.CaptureFixture[str]
    now: datetime

    def ago(self, seconds: float) -> datetime:
        return self.now - timedelta(seconds=seconds)

    async def publish(self, *found: Record) -> None:
        async with producers.idempotent(self.kafka) as producer:
            await producer.publish(found)

    async def hint(self, *, ago: float = 30, source: Source = Source.PUSH, **wish: Any) -> Change:
        """A hint in `changes`, which nobody has read."""
        change = Change(
            seller_id=SELLER,
            tid=TID,
            event=MESSAGE,
            occurred_at=self.ago(ago),
            settled_after=self.ago(ago),
            received_at=self.ago(ago - 1),
            source=source,
            **wish,
        )
        await self.publish(records.change(self.registry.changes.name, change))
        return change

    async def read_all(self) -> None:
        """The enrichers have done everything that is in `changes`."""
        name = self.registry.changes.name
        tps = [TopicPartition(name, number) for number in range(self.kafka.partitions)]
        async with clients.reader(self.kafka, group_id=GROUP) as consumer:
            consumer.assign(tps)
            await consumer.commit(await consumer.end_offsets(tps))

    async def store(
        self, *, modified: float = 60, fetched: float = 50, source: str = "push", **fields: object
    ) -> list[UnpublishedOrder]:
        """Write a version into the table; returns what the topic must get."""
        raw = platform_trade(TID, receiver_name=RECEIVER) | fields
        raw["created"] = platform_time.format(self.ago(3600))
        raw["modified"] = platform_time.format(self.ago(modified))
        version = OrderVersion(SELLER, Trade.read(raw), self.ago(fetched), source)
        number = records.partition_of(TID, self.kafka.partitions)
        epoch = await orders.take_over(self.pool, number, "enrich-of-the-test")
        written = await orders.TABLE.upsert(self.pool, [version], partition=number, epoch=epoch)
        return written.ahead

    async def publish_versions(self, ahead: list[UnpublishedOrder]) -> None:
        await self.publish(
            *(
                records.version(
                    self.registry.orders.name,
                    ORDERS,
                    version,
                    published_at=version.fetched_at + timedelta(seconds=1),
                    hinted_at=version.fetched_at - timedelta(seconds=2),
                )
                for version in ahead
            )
        )
        await orders.TABLE.mark_published(self.pool, ahead)

    async def waits(self, reason: str, *, wait_seconds: float = 600, **wish: Any) -> Refetch:
        """Note that the order is to be asked for again."""
        refetch = Refetch(
            tid=TID,
            seller_id=SELLER,
            event=MESSAGE,
            occurred_at=self.ago(20),
            settled_after=self.ago(20),
            modified=None,
            source="push",
            reason=reason,
            **wish,
        )
        await refetches.postpone(self.pool, [refetch], wait=timedelta(seconds=wait_seconds))
        return refetch

    async def is_live(self) -> None:
        """The seller's bulk start is done, and everything until a minute ago is proven."""
        span = Span(self.ago(86400), self.ago(60))
        window = PulledWindow(SELLER, span, "bootstrap", None, self.ago(61), 10, 2, span.end)
        await coverage.record(self.pool, [window])
        await self.pool.execute("update sellers set state = 'live' where seller_id = $1", SELLER)

    async def set_aside(self, reason: str = "refused", *, ago: float = 10, noted: bool = True) -> str:
        """A dead letter; its event id."""
        letter = records.dead_letter(
            self.registry.dead_letters.name,
            reason=reason,
            detail="code 15 \x1b[2J",
            original=f'{{"tid": {TID}, "receiver_name": "{RECEIVER}"}}'.encode(),
            key=records.key_of(TID),
            at=self.ago(ago),
            origin="enricher",
            seller_id=SELLER,
        )
        await self.publish(letter)
        event_id = dict(letter.headers)["ce_id"].decode()
        if noted:
            note = OpenDeadLetter(Subject.of_order(TID, reason), event_id, SELLER)
            await open_letters.note(self.pool, [note], kept=timedelta(days=90))
        return event_id

    async def story(self, tid: int = TID, seller: str | None = None) -> dict[str, Any]:
        self.capsys.readouterr()
        await explain.explain(ExplainRequest(tid, seller, None), as_json=True)
        document: dict[str, Any] = orjson.loads(self.capsys.readouterr().out)
        return document

    async def text(self, tid: int = TID) -> str:
        self.capsys.readouterr()
        await explain.explain(ExplainRequest(tid, None, None), as_json=False)
        return self.capsys.readouterr().out

    async def standings(self) -> list[str]:
        return [verdict["standing"] for verdict in (await self.story())["standings"]]


@pytest.fixture
async def here(
    kafka_of_commands: KafkaSettings,
    migrated_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> AsyncIterator[Installation]:
    monkeypatch.setenv("TOPSYNC_ENRICHER_GROUP", GROUP)
    monkeypatch.setenv("COLUMNS", "120")
    registry = await create_topics(kafka_of_commands)
    async with emptied(migrated_database_url) as pool:
        yield Installation(pool, kafka_of_commands, registry, capsys, datetime.now(UTC))


async def test_the_story_goes_from_the_message_to_the_topic(here: Installation) -> None:
    await here.is_live()
    await here.hint(ago=52)
    await here.publish_versions(await here.store())
    await here.publish_versions(await here.store(modified=30, fetched=25, status="TRADE_FINISHED"))
    await here.read_all()

    story = await here.story()

    assert story["standing"] == "published"
    assert story["order"]["revision"] == story["order"]["published_revision"] == 2
    assert story["seller"]["seller_id"] == str(SELLER)
    assert [event["kind"] for event in story["events"]] == [
        "platform", "message", "fetch", "published", "platform", "fetch", "published",
    ]  # fmt: skip
    brought = [event["facts"] for event in story["events"] if event["kind"] == "published"]
    assert [facts["revision"] for facts in brought] == [1, 2]
    assert brought[1]["status_from"] == "WAIT_SELLER_SEND_GOODS"
    assert "finished" in brought[1]["transitions"]
    (message,) = [event for event in story["events"] if event["kind"] == "message"]
    assert message["facts"]["done"] is True
    assert [topic["complete"] for topic in story["looked_through"]] == [True] * 4


async def test_events_come_in_the_order_of_time(here: Installation) -> None:
    for ago in (40, 20, 30):
        await here.hint(ago=ago)
    await here.publish_versions(await here.store())
    await here.set_aside()
    times = [datetime.fromisoformat(event["at"]) for event in (await here.story())["events"]]
    assert times == sorted(times)


async def test_an_order_with_unread_hints_says_how_many_records_are_before_it(
    here: Installation,
) -> None:
    await here.hint(ago=40)
    await here.hint(ago=30)
    story = await here.story()
    assert story["standing"] == "unread"
    assert "2 records" in story["standings"][0]["says"]
    assert story["unread_changes"] == 2
    assert "`topsync enrich`" in story["standings"][0]["next"]  # none is running
    await here.read_all()
    assert "unread" not in await here.standings()


async def test_an_order_that_waits_for_a_settled_detail_says_when_it_is_asked_for_again(
    here: Installation,
) -> None:
    await here.is_live()
    await here.hint(ago=60, reason="asked again, 1: detail_behind")
    await here.read_all()
    await here.waits("detail_behind")
    story = await here.story()
    (verdict, *_) = story["standings"]
    assert verdict["standing"] == "waiting"
    assert "in 10 min" in verdict["next"]
    assert "45 times" in verdict["next"]
    assert story["events"][-1]["kind"] == "planned"
    assert [event["kind"] for event in story["events"]].count("hint") == 1


async def test_a_wait_that_is_over_is_not_shown(here: Installation) -> None:
    await here.is_live()
    await here.waits("no_news")
    await here.publish_versions(await here.store(modified=15, fetched=10))
    story = await here.story()
    assert story["standing"] == "published"
    assert not [event for event in story["events"] if event["kind"] == "planned"]


@pytest.mark.parametrize(
    ("state", "cure"), [("paused", "sellers resume"), ("expired", "sellers authorise")], ids=str
)
async def test_a_parked_order_says_how_to_reactivate_its_seller(
    here: Installation, state: str, cure: str
) -> None:
    await here.is_live()
    await here.pool.execute(
        "update sellers set state = $2, state_reason = 'why', state_since = now() where seller_id = $1",
        SELLER,
        state,
    )
    await here.waits(NO_SESSION)
    story = await here.story()
    assert story["standing"] == "parked"
    assert cure in story["standings"][0]["next"]
    assert "seller" in [event["kind"] for event in story["events"]]


async def test_an_order_in_the_backlog_says_so_and_names_its_task(here: Installation) -> None:
    await here.is_live()
    await here.waits(BACKLOG)
    assert (await here.standings())[0] == "backlog"
    task = await detail_tasks.begin(here.pool, SELLER, sources=["push"], limit=10, asked_at=here.ago(5))
    assert task is not None
    await detail_tasks.requested(here.pool, task, 777)
    story = await here.story()
    assert story["standing"] == "backlog"
    assert "777" in story["standings"][0]["says"]


async def test_a_lingering_message_says_until_when(here: Installation) -> None:
    await here.is_live()
    refetch = Refetch(
        tid=TID, seller_id=SELLER, event=MESSAGE, occurred_at=here.ago(5), settled_after=here.ago(5),
        modified=None, source="push", reason=LINGERING,
    )  # fmt: skip
    until = here.now + timedelta(minutes=5)
    await refetches.linger(here.pool, [Lingering(refetch, until)], now=here.now)
    story = await here.story()
    assert story["standing"] == "lingering"
    said = re.search(r"until (\S+ \S+) \(GMT\+8\)", story["standings"][0]["says"])
    assert said
    # It counts on the database's clock, from the moment when it is noted.
    assert timedelta(seconds=-1) < platform_time.parse(said[1]) - until < timedelta(minutes=1)


async def test_a_ban_is_named_with_its_end_while_the_order_waits_for_a_call(here: Installation) -> None:
    await here.pool.execute("insert into call_bans values ('app', now() + interval '10 minutes')")
    assert "banned" not in await here.standings()
    await here.waits("platform_unavailable")
    assert (await here.standings())[:2] == ["banned", "waiting"]


async def test_an_open_gap_of_the_seller_says_what_may_be_missing(here: Installation) -> None:
    await here.is_live()
    await here.publish_versions(await here.store())
    await here.pool.execute(
        "insert into gaps (seller_id, began, cause, opened_at) values ($1, $2, 'silent', now())",
        SELLER,
        here.ago(300),
    )
    story = await here.story()
    assert [verdict["standing"] for verdict in story["standings"]] == ["gap", "published"]
    assert "push" in [event["kind"] for event in story["events"]]


async def test_an_order_with_a_dead_letter_says_why_and_how_to_retry_it(here: Installation) -> None:
    await here.is_live()
    event_id = await here.set_aside()
    story = await here.story()
    assert story["standing"] == "dead_letter"
    assert f"topsync deadletter retry --tid {TID}" in story["standings"][0]["next"]
    assert len([event for event in story["events"] if event["kind"] == "set_aside"]) == 1
    await dead_letters.mark_closed(here.pool, [event_id], "mended", kept=timedelta(days=90))
    assert "dead_letter" not in await here.standings()
    assert "operator" in [event["kind"] for event in (await here.story())["events"]]


async def test_a_dead_letter_from_before_the_newest_fetch_is_history(here: Installation) -> None:
    await here.is_live()
    await here.set_aside(ago=100, noted=False)
    await here.publish_versions(await here.store())
    assert (await here.standings())[0] == "published"


async def test_an_unpublished_version_is_named_with_both_revisions(here: Installation) -> None:
    await here.is_live()
    await here.publish_versions(await here.store())
    await here.store(modified=30, fetched=25, status="TRADE_FINISHED")
    story = await here.story()
    assert story["standing"] == "unpublished"
    assert "revision 2" in story["standings"][0]["says"]
    assert "the topic has revision 1" in story["standings"][0]["says"]
    assert "published" not in [verdict["standing"] for verdict in story["standings"]]


async def test_an_order_of_an_erased_seller_is_erased_and_its_tombstone_names_the_seller(
    here: Installation,
) -> None:
    await here.publish_versions(await here.store())
    await erasures.begin(here.pool, SELLER)
    assert (await here.standings()) == ["being_erased"]
    asked = Erasure(seller_id=SELLER, tid=TID, asked_at=here.ago(3))
    gone = records.tombstone(
        here.registry.orders.name, type_="taobao.trade.order.erased.v1", id_=TID, seller_id=SELLER,
        revision=2, erased_at=here.ago(2), published_at=here.ago(1),
    )  # fmt: skip
    await here.publish(records.erasure(here.registry.changes.name, asked), gone)
    await here.pool.execute("delete from orders")
    story = await here.story()
    assert story["standing"] == "erased"
    assert story["known"] is True
    assert story["seller"]["state"] == "erased"
    assert story["order"] is None
    assert "erased" in [event["kind"] for event in story["events"]]


async def test_an_unknown_order_is_called_unknown_and_the_status_is_1(here: Installation) -> None:
    assert await explain.explain(ExplainRequest(TID, None, None), as_json=False) == 1
    shown = here.capsys.readouterr().out
    assert f"nothing is known of an order {TID}" in " ".join(shown.split())
    await here.is_live()
    story = await here.story(seller="demo_one")
    assert story["known"] is False
    assert story["standing"] == "unknown"
    assert f"topsync replay --seller {SELLER}" in story["standings"][0]["next"]
    with pytest.raises(NoSellerError, match="no seller nobody"):
        await here.story(seller="nobody")


async def test_an_order_of_a_seller_that_was_never_added_says_so(here: Installation) -> None:
    await here.hint()
    await here.read_all()
    await here.pool.execute("delete from sellers where seller_id = $1", SELLER)
    story = await here.story()
    assert story["standing"] == "seller_away"
    assert "never added" in story["standings"][0]["says"]


async def test_a_lost_topic_is_named_with_the_command_that_repairs_it(here: Installation) -> None:
    await here.is_live()
    await here.publish_versions(await here.store())
    await here.pool.execute(
        "insert into topic_losses (topic, found_by, reason) values ($1, $2, $3)",
        Kind.ORDER.plural,
        Finder.ENRICHER.value,
        Reason.CUT_OFF.value,
    )
    assert await compacted_topics.losses(here.pool)
    story = await here.story()
    assert story["standing"] == "topic_lost"
    assert "topsync republish" in story["standings"][0]["next"]


async def test_the_windows_that_listed_its_last_change_are_in_the_story(here: Installation) -> None:
    await here.is_live()
    await here.publish_versions(await here.store(modified=300, fetched=290))
    story = await here.story()
    (pulled,) = [event for event in story["events"] if event["kind"] == "pull"]
    assert pulled["facts"]["source"] == "bootstrap"
    assert pulled["facts"]["listed"] == 10


async def test_without_kafka_it_says_so_and_shows_what_postgresql_knows(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await here.is_live()
    await here.publish_versions(await here.store())
    await here.set_aside(ago=5)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    story = await here.story()
    assert story["kafka_problem"].startswith("Kafka (KAFKA_BOOTSTRAP_SERVERS)")
    assert [verdict["standing"] for verdict in story["standings"]] == ["dead_letter", "published"]
    assert {"stored", "set_aside"} <= {event["kind"] for event in story["events"]}
    assert "are not in the story" in await here.text()
    assert (await here.story(TID + 1))["standing"] == "unknown"


async def test_words_of_another_release_in_a_row_are_shown_as_they_are(here: Installation) -> None:
    await here.is_live()
    await here.waits("a_reason_to_come")
    await here.store()
    await here.pool.execute(
        """update orders set source = 'satellite', step = '{"transitions": ["teleported"], "beyond": 1}'"""
    )
    story = await here.story()
    assert "teleported" in next(event["says"] for event in story["events"] if event["kind"] == "stored")
    waiting = next(verdict for verdict in story["standings"] if verdict["standing"] == "waiting")
    assert "a_reason_to_come" in waiting["says"]


async def test_no_receivers_data_are_shown_and_control_codes_are_shown_as_text(
    here: Installation,
) -> None:
    await here.is_live()
    await here.hint(reason="a \x1b[31mred\n reason")
    await here.publish_versions(await here.store())
    await here.set_aside()
    await here.publish(
        records.snapshot(
            here.registry.snapshots.name, tid=TID, seller_id=SELLER, as_of=here.ago(5),
            reason="export 7", value=f'{{"receiver_name": "{RECEIVER}"}}'.encode(),
        )
    )  # fmt: skip
    text, story = await here.text(), str(await here.story())
    assert RECEIVER not in text + story
    assert "\x1b" not in text
    assert "export 7" in text


async def test_a_hint_that_another_program_wrote_does_not_break_the_story(here: Installation) -> None:
    key = str(TID).encode()
    await here.publish(Record(here.registry.changes.name, key, b"\xff not a change", []))
    await here.publish(Record(here.registry.orders.name, key, b"{}", [("ce_revision", b"many")]))
    await here.publish(Record(here.registry.snapshots.name, key, b"{}", []))
    story = await here.story()
    assert [event["kind"] for event in story["events"]] == ["export"]


async def test_the_story_names_the_topics_that_were_not_fully_searched(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    from topsync.operate import order_records

    for ago in range(40, 30, -1):
        await here.hint(ago=ago)
    monkeypatch.setattr(order_records, "MOST_OFFSETS", 3)
    story = await here.story()
    assert len([event for event in story["events"] if event["kind"] == "message"]) == 3
    assert [topic["topic"] for topic in story["looked_through"] if not topic["complete"]] == ["changes"]
    assert "was not looked through" in await here.text()


@pytest.mark.parametrize("columns", ["80", "160"])
async def test_the_story_fits_the_screen(
    here: Installation, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    await here.is_live()
    await here.hint(reason="word " * 60)
    await here.publish_versions(await here.store())
    lines = (await here.text()).splitlines()
    # A command is never broken, so the line with the next step may be longer.
    assert max(len(line) for line in lines if not line.startswith("  next: ")) <= int(columns)
    assert f"Order {TID}" in lines[0]


async def test_a_message_names_the_seller_of_an_order_that_is_not_stored(here: Installation) -> None:
    await here.hint()
    found = await sellers.find(here.pool, str(SELLER))
    assert found is not None
    story = await here.story()
    assert story["seller"]["nick"] == found.nick
