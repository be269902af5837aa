"""Detail calls for each message on an ordinary day of the simulator, and whether any state came too late.

The day is `topsync/simulator/day.py`. Besides what was measured, the calls that other policies would have
made for the same messages are worked out from the record of them (`calls_when_lingering`).
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast

import asyncpg
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from benchmarks.report import Report, Row
from schemas import cloud_events, platform_time
from schemas.change import Change, Source
from schemas.types import parse_instant
from topsync.local import run_folders
from topsync.local.processes import ProcessGroup
from topsync.local.system import Scale, System, local_system
from topsync.settings import KafkaSettings
from topsync.stream import topics
from topsync.stream.topics import Topic

CHANGES_PER_SECOND: Final = 40
SECONDS: Final = 12.0
ORDERS: Final = 3000
TARGET_CALLS_PER_MESSAGE: Final = 0.4

LINGER_SECONDS: Final = 5.0
WORKED_OUT_SECONDS: Final = (0.0, 1.0, 5.0, 20.0)
ANSWER_SECONDS: Final = 0.03
"""From a message to the begin of its fetch, for what is worked out."""

BOUND_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.2
QUIET_LOOKS: Final = 10
"""So many looks in a row that find nothing to be done are the end of a day."""

FULLINFO: Final = "taobao.trade.fullinfo.get"

SCENARIO: Final = """
[settings]
day = true

[settings.quirks]
messages_per_line = {per_line}

[[faults]]
fault = "duplicate"
probability = 0.02
"""
"""One message in fifty comes twice: no source tells how many do."""

SETTINGS: Final = {
    # The allowance of production: a fetch sooner after its message proves nothing.
    "TOPSYNC_DETAIL_LAG_ALLOWANCE_SECONDS": "1",
    "TOPSYNC_SWEEP_INTERVAL_SECONDS": "0",
    "TOPSYNC_PUSH_CONNECTIONS": "2",
    "TOPSYNC_PARTITIONS": "12",
}

SETUP: Final = (
    f"The whole system in processes of its own on these cores, {CHANGES_PER_SECOND} changes a second for "
    f"{SECONDS:g} s as on an ordinary day (`topsync/simulator/day.py`, where its assumptions are), over 12 "
    "partitions and two connections, one message in fifty repeated, no sweeps. Whether a change is told "
    "once, or once for each of its order's lines, is not documented, so both are played. A call is one of "
    "`taobao.trade.fullinfo.get`, those that ask again included. A message is late until the topic has a "
    "state of its order that has reached the message's second. Lingering (`TOPSYNC_LINGER_SECONDS`, by "
    "default 0) lets each message wait so long for others of its order; worked out is what it would have "
    "come to for the messages of the first policy."
)


@dataclass(frozen=True, slots=True)
class Message:
    """One message as the enrichers read it."""

    tid: int
    told_at: datetime


@dataclass(frozen=True, slots=True)
class Version:
    """One state of an order, as a subscriber sees it."""

    published_at: datetime
    modified: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one policy came to."""

    messages: Sequence[Message]
    calls: int
    changes: int
    never_shown: int
    """Messages whose second no published state of their order has reached."""
    seconds_late: Sequence[float]
    """From each message to the publication of its state, ascending."""
    unproven: int
    """Orders that a sweep would fetch once more, for proof."""

    def for_each_message(self, count: int) -> float:
        return count / len(self.messages)

    def late_milliseconds(self, share: float) -> float:
        return 1000 * self.seconds_late[int(share * (len(self.seconds_late) - 1))]


async def run() -> Report:
    """Play the day both ways, once with the other policy as well, and report all."""
    rows: list[Row] = []
    for name, per_line in (("told for each line", True), ("told once", False)):
        async with _day(per_line=per_line) as system:
            at_once = await _play(system, linger_seconds=0)
            lingering = await _play(system, linger_seconds=LINGER_SECONDS) if per_line else None
            stale = await _stale(system)
        rows += [
            Row(
                what=f"{name}: messages for each change",
                value=len(at_once.messages) / at_once.changes,
                unit="",
                digits=2,
            ),
            *_rows(f"{name}, fetched at once", at_once),
            *(_rows(f"{name}, lingering {LINGER_SECONDS:g} s", lingering) if lingering else ()),
            Row(what=f"{name}: orders stale in the end", value=stale, unit="", at_most=0),
            *(
                Row(
                    what=f"{name}, lingering {seconds:g} s, worked out: calls for each message",
                    value=at_once.for_each_message(calls_when_lingering(at_once.messages, seconds)),
                    unit="",
                    digits=2,
                )
                for seconds in WORKED_OUT_SECONDS
            ),
        ]
    return Report("coalescing", SETUP, rows)


def _rows(name: str, found: Outcome) -> list[Row]:
    return [
        Row(
            what=f"{name}: calls for each message",
            value=found.for_each_message(found.calls),
            unit="",
            at_most=TARGET_CALLS_PER_MESSAGE,
            digits=2,
        ),
        Row(what=f"{name}: messages never shown", value=found.never_shown, unit="", at_most=0),
        Row(what=f"{name}: message to topic, p50", value=found.late_milliseconds(0.5), unit="ms"),
        Row(what=f"{name}: message to topic, p99", value=found.late_milliseconds(0.99), unit="ms"),
        Row(
            what=f"{name}: calls of the sweep that proves it, for each message",
            value=found.for_each_message(found.unproven),
            unit="",
            digits=2,
        ),
    ]


def calls_when_lingering(messages: Iterable[Message], seconds: float) -> int:
    """Calls if each message waited so long for others of its order, one call answering them all."""
    by_order: defaultdict[int, list[datetime]] = defaultdict(list)
    for message in messages:
        by_order[message.tid].append(message.told_at)
    wait = timedelta(seconds=max(seconds, ANSWER_SECONDS))
    calls = 0
    for moments in by_order.values():
        answered_until = datetime.min.replace(tzinfo=platform_time.CHINA)
        for moment in sorted(moments):
            if moment > answered_until:
                calls += 1
                answered_until = moment + wait
    return calls


@asynccontextmanager
async def _day(*, per_line: bool) -> AsyncIterator[System]:
    """A system whose sellers are live, and whose platform has days of that kind."""
    folder = run_folders.create()
    scenario = folder / "day.toml"
    scenario.write_text(SCENARIO.format(per_line=str(per_line).lower()))
    async with (
        ProcessGroup(folder) as group,
        local_system(
            group,
            Scale(orders=ORDERS, rate=0, visibility_delay_seconds=0),
            settings=SETTINGS,
            simulator_arguments=("--scenario", str(scenario)),
        ) as system,
    ):
        await system.start_services()
        await system.run("bootstrap")
        yield system


async def _play(system: System, *, linger_seconds: float) -> Outcome:
    """Some seconds of a day, under one policy."""
    if linger_seconds:
        # Only then: an enricher's clock is rough for its first seconds, and rough times prove less.
        await system.processes["enrich"].stop()
        system.environment["TOPSYNC_LINGER_SECONDS"] = str(linger_seconds)
        await system.start("enrich")
    calls, changes, began_at = await _calls_when_quiet(system), await _changes(system), await _now(system)
    await system.admin("POST", "/activity", {"rate": CHANGES_PER_SECOND})
    await asyncio.sleep(SECONDS)
    await system.admin("POST", "/activity", {"rate": 0})
    calls = await _calls_when_quiet(system) - calls
    messages = [message async for message in _messages(system) if message.told_at >= began_at]
    versions = await _versions(system)
    late = [_seconds_late(message, versions[message.tid]) for message in messages]
    return Outcome(
        messages=messages,
        calls=calls,
        changes=await _changes(system) - changes,
        never_shown=late.count(None),
        seconds_late=sorted(one for one in late if one is not None),
        unproven=await _unproven(system, began_at),
    )


async def _calls_when_quiet(system: System) -> int:
    """The calls made when every message is confirmed, every hint read and nothing is to be asked again."""
    async with asyncio.timeout(BOUND_SECONDS):
        before, quiet = -1, 0
        while quiet < QUIET_LOOKS:
            await asyncio.sleep(POLL_SECONDS)
            calls = await _calls(system)
            ledger = cast("Mapping[str, Mapping[str, int]]", await system.admin("GET", "/ledger"))
            waiting = ledger["channel"]["in_flight"] + await _value(system, "select count(*) from refetches")
            quiet = quiet + 1 if calls == before and not waiting else 0
            before = calls
    return before


async def _calls(system: System) -> int:
    ledger = cast("Mapping[str, Any]", await system.admin("GET", "/ledger"))
    return int(ledger["gateway"]["apis"].get(FULLINFO, {}).get("total", 0))


async def _changes(system: System) -> int:
    activity = cast("Mapping[str, int]", await system.admin("GET", "/activity"))
    return activity["changes"]


async def _now(system: System) -> datetime:
    clock = cast("Mapping[str, str]", await system.admin("GET", "/clock"))
    return datetime.fromisoformat(clock["utc"])


async def _value(system: System, query: str, *arguments: object) -> int:
    connection = await asyncpg.connect(system.environment["TOPSYNC_DATABASE_URL"])
    try:
        return int(await connection.fetchval(query, *arguments))
    finally:
        await connection.close()


async def _stale(system: System) -> int:
    """Orders that the audit calls missing or stale."""
    _, output = await system.try_run("audit", "--settle-seconds", "1")
    found = re.search(r"missing=(\d+) stale=(\d+)", output)
    assert found, output
    return int(found[1]) + int(found[2])


async def _unproven(system: System, began_at: datetime) -> int:
    """Orders whose fetch began before their last change was settled."""
    return await _value(
        system,
        "select count(*) from orders where modified >= $1 and fetched_at < modified + interval '2 s'",
        began_at,
    )


async def _messages(system: System) -> AsyncIterator[Message]:
    """The messages about orders, as push has written them; what asks again is none."""
    async for record in _records(system, topics.registry(_kafka(system)).changes):
        change = Change.model_validate_json(record.value or b"")
        if change.source is Source.PUSH and change.reason is None:
            yield Message(change.tid, change.occurred_at)


async def _versions(system: System) -> Mapping[int, Sequence[Version]]:
    """What a subscriber has seen of each order, in order."""
    found: defaultdict[int, list[Version]] = defaultdict(list)
    async for record in _records(system, topics.registry(_kafka(system)).orders):
        told = cloud_events.attributes(record.headers)
        version = Version(parse_instant(told["publishedat"]), parse_instant(told["time"]))
        found[int(told["subject"])].append(version)
    return found


def _seconds_late(message: Message, versions: Sequence[Version]) -> float | None:
    """How long after a message its state was published; none where it never was."""
    second = platform_time.floor_to_second(message.told_at)
    for version in versions:
        # A message may be published in the second after its change: then its state may be the last one.
        is_last = version is versions[-1] and version.modified >= second - platform_time.RESOLUTION
        if version.modified >= second or is_last:
            return max(0.0, (version.published_at - message.told_at).total_seconds())
    return None


def _kafka(system: System) -> KafkaSettings:
    return KafkaSettings(
        kafka_bootstrap_servers=system.servers.kafka_bootstrap_servers,
        partitions=int(system.environment["TOPSYNC_PARTITIONS"]),
        replication_factor=1,
    )


async def _records(system: System, topic: Topic) -> AsyncIterator[ConsumerRecord[bytes, bytes]]:
    """Everything that is in a topic now."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=system.servers.kafka_bootstrap_servers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
    try:
        await consumer.start()
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(partitions)
        while [tp for tp in partitions if await consumer.position(tp) < ends[tp]]:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    yield record
    finally:
        await consumer.stop()
