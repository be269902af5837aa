"""Operators and dead letters: found, shown without what nobody should see, and tried again once."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import orjson
import pytest

from schemas.change import Change, Source
from tests.deadletters import letterbox
from tests.deadletters.letterbox import RECEIVER, TID
from tests.store.databases import SELLER, at, emptied
from tests.stream.clusters import create_topics, read_all, settings_for
from topsync.deadletters import operations, reading
from topsync.deadletters.operations import Filter
from topsync.deadletters.reading import LettersError
from topsync.settings import KafkaSettings
from topsync.store.database import Pool
from topsync.stream import producer as producers
from topsync.stream.records import Record
from topsync.stream.topics import Registry

UNKNOWN_SELLER = 999


def nobody(_: str) -> str:
    raise AssertionError("nothing was to be asked")


@dataclass
class Desk:
    """The servers beside the commands, which take everything from the environment."""

    pool: Pool
    kafka: KafkaSettings
    registry: Registry
    capsys: pytest.CaptureFixture[str]

    @property
    def topic(self) -> str:
        return self.registry.dead_letters.name

    async def put(self, *letters: Record) -> None:
        """Write letters, in transactions as the enricher does: their markers take offsets, too."""
        async with producers.partition_publisher(
            self.kafka, group=self.kafka.topic_prefix, partition=0, spacing_seconds=0
        ) as publisher:
            for letter in letters:
                await publisher.publish([letter], {})

    async def listed(self, which: Filter | None = None, *, limit: int = 50) -> list[dict[str, object]]:
        self.capsys.readouterr()
        await operations.list_letters(which or Filter(), limit=limit, as_json=True)
        return [orjson.loads(line) for line in self.capsys.readouterr().out.splitlines()]

    async def tids(self, which: Filter | None = None, *, limit: int = 50) -> list[object]:
        return [letter["tid"] for letter in await self.listed(which, limit=limit)]

    async def ids(self) -> list[str]:
        return [str(letter["id"]) for letter in await self.listed(Filter(retried=True))]

    async def retry(
        self, *names: str, which: Filter | None = None, dry_run: bool = False, answer: str | None = None
    ) -> tuple[int, str]:
        status = await operations.retry(
            names,
            which or Filter(),
            limit=100,
            dry_run=dry_run,
            yes=False,
            ask=nobody if answer is None else lambda _: answer,
        )
        return status, self.capsys.readouterr().out

    async def hints(self) -> Sequence[Change]:
        found = await read_all(self.kafka, self.registry.changes.name, 2)
        return [Change.model_validate_json(one.value or b"") for one in found]


@pytest.fixture
async def desk(
    migrated_database_url: str,
    kafka_bootstrap_servers: str,
    topic_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> AsyncIterator[Desk]:
    for name, value in {
        "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap_servers,
        "TOPSYNC_TOPIC_PREFIX": topic_prefix,
        "TOPSYNC_PARTITIONS": "2",
        "TOPSYNC_REPLICATION_FACTOR": "1",
        "TOPSYNC_DATABASE_URL": migrated_database_url,
    }.items():
        monkeypatch.setenv(name, value)
    # Made when the module was imported, as wide as whoever ran the tests happened to be.
    monkeypatch.setattr(operations.console, "width", 250)
    # Small, so that every test reads across the seams.
    monkeypatch.setattr(reading, "CHUNK", 3)
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix, partitions=2)
    registry = await create_topics(kafka)
    async with emptied(migrated_database_url) as pool:
        yield Desk(pool, kafka, registry, capsys)


async def test_the_newest_are_listed_last_and_only_so_many(desk: Desk) -> None:
    assert await desk.listed() == []
    await desk.put(*(letterbox.refused(TID + n, second=n, topic=desk.topic) for n in range(7)))
    everything = [str(TID + n) for n in range(7)]
    assert await desk.tids() == everything
    assert await desk.tids(limit=3) == everything[-3:]
    first = (await desk.listed())[0]
    assert (first["reason"], first["seller_id"], first["from"]) == (
        "refused",
        str(SELLER),
        "enricher/changes/0/17",
    )


async def test_letters_are_found_by_reason_seller_order_and_time(desk: Desk) -> None:
    await desk.put(
        letterbox.refused(TID, second=0, topic=desk.topic),
        letterbox.unreadable_snapshot(TID + 1, second=60, topic=desk.topic),
        letterbox.refused(TID + 2, UNKNOWN_SELLER, second=120, topic=desk.topic),
    )
    assert await desk.tids(Filter(reason="unreadable_snapshot")) == [str(TID + 1)]
    assert await desk.tids(Filter(seller="demo_one")) == [str(TID), str(TID + 1)]
    assert await desk.tids(Filter(seller=str(UNKNOWN_SELLER))) == [str(TID + 2)]
    assert await desk.tids(Filter(tid=TID)) == [str(TID)]
    ten_o_clock = at(60).replace(tzinfo=None, hour=10)  # GMT+8
    assert await desk.tids(Filter(since=ten_o_clock)) == [str(TID + 1), str(TID + 2)]
    assert await desk.tids(Filter(since=ten_o_clock.replace(year=2100))) == []
    with pytest.raises(LettersError, match="no seller nobody"):
        await desk.listed(Filter(seller="nobody"))


async def test_nothing_of_a_letter_is_shown_but_on_the_wish_to_see_it(desk: Desk) -> None:
    """I9; and no terminal obeys what came from outside."""
    await desk.put(
        letterbox.unreadable_snapshot(topic=desk.topic), letterbox.unreadable_message(topic=desk.topic)
    )
    await operations.list_letters(Filter(), limit=50, as_json=False)
    snapshot, message = await desk.ids()
    for name in (snapshot, message):
        for as_json in (False, True):
            await operations.show(name, original=False, as_json=as_json)
    shown = desk.capsys.readouterr().out
    assert "unreadable_snapshot" in shown
    assert str(TID) in shown
    assert RECEIVER not in shown
    assert "secret" not in shown

    for name in (snapshot, message):
        await operations.show(name, original=True, as_json=False)
    wished = desk.capsys.readouterr().out
    assert RECEIVER in wished
    assert r"\x1b[2Jsecret" in wished
    assert r"\x00\xff\x1b]0;secret\x07" in wished
    assert "\x1b" not in wished
    await operations.show(message, original=True, as_json=True)
    told = orjson.loads(desk.capsys.readouterr().out)
    assert base64.b64decode(told["original"]) == letterbox.unreadable_message().value


@pytest.mark.parametrize("name", ["0/99", "7/0", "17", "0/1"])
async def test_a_letter_that_is_not_there_is_one_line_with_the_next_step(desk: Desk, name: str) -> None:
    """0/1 is the marker of a transaction."""
    await desk.put(letterbox.refused(topic=desk.topic))
    with pytest.raises(LettersError, match="topsync deadletter list"):
        await operations.show(name, original=False, as_json=False)


async def test_what_is_tried_again_is_asked_for_once_and_no_longer_open(desk: Desk) -> None:
    await desk.put(
        letterbox.refused(TID, topic=desk.topic), letterbox.unreadable_snapshot(TID + 1, topic=desk.topic)
    )
    names = await desk.ids()
    status, told = await desk.retry(*names, dry_run=True)
    assert (status, await desk.hints()) == (0, [])
    assert "2 of 2 can be tried again" in told
    assert len(await desk.tids()) == 2

    status, told = await desk.retry(*names)
    assert status == 0
    assert {(hint.tid, hint.source, hint.reason) for hint in await desk.hints()} == {
        (TID + n, Source.OPERATOR, f"dead letter {name}") for n, name in enumerate(names)
    }
    assert await desk.tids() == []
    assert [letter["retried_at"] is not None for letter in await desk.listed(Filter(retried=True))] == [
        True,
        True,
    ]
    status, told = await desk.retry(*names)
    assert status == 1
    assert "tried again already" in told
    assert len(await desk.hints()) == 2


async def test_what_cannot_be_tried_again_stays_open_and_says_why(desk: Desk) -> None:
    await desk.put(
        letterbox.unreadable_message(topic=desk.topic),
        letterbox.refused(TID, UNKNOWN_SELLER, topic=desk.topic),
        letterbox.refused(TID + 1, topic=desk.topic),
    )
    status, told = await desk.retry(*await desk.ids())
    assert status == 1
    assert f"topsync replay --seller {SELLER}" in told
    assert "its seller is not known" in told
    assert [hint.tid for hint in await desk.hints()] == [TID + 1]
    assert await desk.tids() == [None, str(TID)]


async def test_many_are_tried_again_only_when_somebody_is_sure(desk: Desk) -> None:
    count = operations.CONFIRM_ABOVE + 1
    await desk.put(*(letterbox.refused(TID + n, topic=desk.topic) for n in range(count)))
    for which in (Filter(reason="refused"), Filter(seller=str(SELLER))):
        status, told = await desk.retry(which=which, answer="")
        assert (status, await desk.hints()) == (0, [])
        assert "nothing is done" in told
    await desk.retry(which=Filter(reason="refused"), answer="yes\n")
    assert len(await desk.hints()) == count
    assert "no open dead letters" in (await desk.retry(which=Filter(reason="refused")))[1]


@pytest.mark.parametrize(
    ("names", "which", "told"),
    [
        pytest.param((), Filter(), "which ones", id="none named"),
        pytest.param(("0/1",), Filter(reason="refused"), "not both", id="named and described"),
        pytest.param(("x",), Filter(), "partition/offset", id="no id"),
    ],
)
async def test_what_to_try_again_has_to_be_said_in_one_way(
    names: tuple[str, ...], which: Filter, told: str
) -> None:
    with pytest.raises(LettersError, match=told):
        await operations.retry(names, which, limit=1, dry_run=False, yes=True, ask=nobody)


async def test_marks_do_not_outlive_their_letters(desk: Desk) -> None:
    await desk.pool.execute("insert into dead_letter_retries values ('old', now() - interval '1 year')")
    await desk.put(letterbox.refused(TID, topic=desk.topic))
    await desk.retry(*await desk.ids())
    assert await desk.pool.fetchval("select count(*) from dead_letter_retries") == 1
