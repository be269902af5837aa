"""Detail calls for each message on an ordinary day of the simulator, and whether a state came too late.

Calls for messages are counted apart from calls that sweeps cause; `benchmarks/sweeps.py` calculates these for
other intervals.

The day is `topsync/simulator/day.py`. It is played twice: each message is fetched at once, or messages linger
according to their topic (`topsync/model/linger.py`).
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import asyncpg
from aiokafka import ConsumerRecord, TopicPartition

from benchmarks.report import Report, Row
from schemas import cloud_events, platform_time
from schemas.change import Change, Source
from schemas.types import parse_instant
from topsync.base.settings import KafkaSettings
from topsync.local import run_folders
from topsync.local.processes import ProcessGroup
from topsync.local.system import Scale, System, local_system
from topsync.model import linger
from topsync.platforms.taobao.linger import WORDS
from topsync.stream import clients, topics
from topsync.stream.topics import Topic

CHANGES_PER_SECOND: Final = 40
WARM_UP_SECONDS: Final = 25.0
"""Before this time, fewer scenes are in play than later, and fewer messages wait."""
SECONDS: Final = 20.0
"""The measured time of each day."""
ORDERS: Final = 3000
TARGET_CALLS_PER_MESSAGE: Final = 0.4

UNHURRIED: Final = linger.parse(linger.UNHURRIED, WORDS)
SWEEP_SECONDS: Final = 5
RUNS_ON_SECONDS: Final = max(UNHURRIED.values()).total_seconds() + 2
"""After the measured time: until its last messages have lingered, as on any day."""

ANSWER_SECONDS: Final = 0.03
"""From a message to the begin of its fetch, for the calculated row."""

BOUND_SECONDS: Final = 180.0
POLL_SECONDS: Final = 0.2
QUIET_LOOKS: Final = 10
"""After so many looks in a row that find nothing to do, a day has ended."""

FULLINFO: Final = "taobao.trade.fullinfo.get"
LISTS: Final = ("taobao.trades.sold.increment.get", "taobao.refunds.receive.get")

SCENARIO: Final = """
[settings]
day = true

[settings.quirks]
messages_per_line = {per_line}

[[faults]]
fault = "duplicate"
probability = 0.02
"""
"""One message in fifty comes twice; no source says how many do on the platform."""

SETTINGS: Final = {
    # The allowances of production: an earlier fetch after a message proves nothing.
    "TOPSYNC_DETAIL_LAG_ALLOWANCE_SECONDS": "1",
    "TOPSYNC_VISIBILITY_ALLOWANCE_SECONDS": "600",
    "TOPSYNC_OVERLAP_SECONDS": "600",
    "TOPSYNC_RECONCILE_POLL_SECONDS": "1",
    "TOPSYNC_SWEEP_INTERVAL_SECONDS": str(SWEEP_SECONDS),
    "TOPSYNC_PUSH_CONNECTIONS": "2",
    "TOPSYNC_PARTITIONS": "12",
}

SETUP: Final = (
    f"The whole system as processes on these cores, {CHANGES_PER_SECOND} changes a second as on an ordinary "
    "day (`topsync/simulator/day.py` has its assumptions), over 12 partitions and two connections, one "
    f"message in fifty repeated, a sweep every {SWEEP_SECONDS} s. Of a day {SECONDS:g} s are measured, after "
    f"{WARM_UP_SECONDS:g} s to warm up; if messages linger, the day runs on until the last of them have. A "
    "call is a call of `taobao.trade.fullinfo.get`, repeated calls included; without a word about sweeps, "
    "calls are those that no sweep has asked for. What sweeps cause is counted from the beginning of the day "
    "until they have proven all of it, and for each message of the whole day: a *proof* of a state that was "
    "stored, but not final for its second; an order with a *newer* state than the stored state; an order "
    "whose *refund* was listed. A message is late until the "
    "topic has a state of its order that has reached the message's second. *Unhurried* is "
    "`TOPSYNC_LINGER=unhurried`: a message about a new order lingers up to 20 s, about a rating or a memo up "
    "to 5 s, about a receipt up to 3 s; all other messages are urgent. It is not documented whether a change "
    "of an order sends one message, or one for each line, so both are played. The target is for a message "
    "per line: with one message per change, the urgent changes alone take more calls than the target (the "
    "last row), which no lingering can save."
)


@dataclass(frozen=True, slots=True)
class Message:
    """A message as the enrichers read it."""

    tid: int
    event: str
    sent_at: datetime

    @property
    def may_linger(self) -> bool:
        """Whether it may linger, if the setting lets messages linger."""
        return self.event in UNHURRIED


@dataclass(frozen=True, slots=True)
class Version:
    """A state of an order, as a subscriber sees it."""

    published_at: datetime
    modified: datetime


@dataclass(frozen=True, slots=True)
class SweepHint:
    """An order that a sweep has asked for."""

    tid: int
    modified: datetime | None
    of_refund: bool
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class SweepCalls:
    """What sweeps have cost, by cause."""

    proofs: int
    newer: int
    refunds: int
    lists: int
    """Pages of lists, of orders and refunds."""

    @property
    def details(self) -> int:
        return self.proofs + self.newer + self.refunds


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a policy."""

    messages: Sequence[Message]
    """Messages of the measured time; the other values are of this time too, unless they say otherwise."""
    calls: int
    changes: int
    never_shown: int
    """Messages whose second no published state of their order has reached."""
    urgent_seconds: Sequence[float]
    """From each urgent message to the publication of its state, in seconds; ascending."""
    lingering_seconds: Sequence[float]
    swept: SweepCalls
    """Of the whole day, until all of it is proven."""
    of_day: int
    """Messages of the whole day."""

    def for_each_message(self, count: int) -> float:
        return count / len(self.messages)


async def run() -> Report:
    """Play both kinds of day, each with both policies, and report the results."""
    rows: list[Row] = []
    for name, per_line in (("a message per line", True), ("a message per change", False)):
        async with _day(per_line=per_line) as system:
            at_once = await _play(system)
            # A new enricher, which lets messages linger.
            await system.processes["enrich"].stop()
            system.environment["TOPSYNC_LINGER"] = linger.UNHURRIED
            await system.start("enrich")
            unhurried = await _play(system, runs_on_seconds=RUNS_ON_SECONDS)
            stale = await _stale(system)
        target = TARGET_CALLS_PER_MESSAGE if per_line else None
        rows += [
            Row(
                what=f"{name}: messages for each change",
                value=len(at_once.messages) / at_once.changes,
                unit="",
                digits=2,
            ),
            *_rows(f"{name}, fetched at once", at_once, target),
            *_rows(f"{name}, unhurried", unhurried, target),
            Row(what=f"{name}: orders stale at the end", value=stale, unit="", at_most=0),
            Row(
                what=f"{name}, calculated: calls for each message if lingering messages needed none",
                value=unhurried.for_each_message(calls_at_once(_urgent(unhurried.messages))),
                unit="",
                digits=2,
            ),
        ]
    return Report("coalescing", SETUP, rows)


def _rows(name: str, found: Outcome, target: float | None) -> list[Row]:
    return [
        Row(
            what=f"{name}: calls for each message",
            value=found.for_each_message(found.calls),
            unit="",
            at_most=target,
            digits=2,
        ),
        Row(what=f"{name}: messages never shown", value=found.never_shown, unit="", at_most=0),
        *_late(f"{name}: urgent message to topic", found.urgent_seconds),
        *_late(f"{name}: lingering message to topic", found.lingering_seconds),
        *(
            Row(what=f"{name}: {what}, for each message", value=count / found.of_day, unit="", digits=2)
            for what, count in (
                ("calls that sweeps cause", found.swept.details),
                ("calls that sweeps cause, proofs", found.swept.proofs),
                ("calls that sweeps cause, newer states", found.swept.newer),
                ("calls that sweeps cause, refunds", found.swept.refunds),
                ("pages of the sweeps' lists", found.swept.lists),
            )
        ),
    ]


def _late(what: str, seconds: Sequence[float]) -> list[Row]:
    return [
        Row(what=f"{what}, {name}", value=1000 * seconds[int(share * (len(seconds) - 1))], unit="ms")
        for name, share in (("p50", 0.5), ("p99", 0.99))
    ]


def _urgent(messages: Iterable[Message]) -> list[Message]:
    return [message for message in messages if not message.may_linger]


def calls_at_once(messages: Iterable[Message]) -> int:
    """Calls if each message is fetched at once, together with messages that come before the fetch begins."""
    by_order: defaultdict[int, list[datetime]] = defaultdict(list)
    for message in messages:
        by_order[message.tid].append(message.sent_at)
    calls = 0
    for moments in by_order.values():
        answered_until = datetime.min.replace(tzinfo=platform_time.CHINA)
        for moment in sorted(moments):
            if moment > answered_until:
                calls += 1
                answered_until = moment + timedelta(seconds=ANSWER_SECONDS)
    return calls


@asynccontextmanager
async def _day(*, per_line: bool) -> AsyncIterator[System]:
    """A system with live sellers, on a platform with that kind of day."""
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


async def _play(system: System, *, runs_on_seconds: float = 0.0) -> Outcome:
    """Play a day with the policy of the running enricher."""
    began_at, lists = await _now(system), await _calls(system, *LISTS)
    await system.admin("POST", "/activity", {"rate": CHANGES_PER_SECOND})
    await asyncio.sleep(WARM_UP_SECONDS)
    start, calls, changes = await _now(system), await _calls(system), await _changes(system)
    await asyncio.sleep(SECONDS)
    end, calls = await _now(system), await _calls(system) - calls
    changes = await _changes(system) - changes
    await asyncio.sleep(runs_on_seconds)
    await system.admin("POST", "/activity", {"rate": 0})
    await _until_quiet(system, began_at)
    lists = await _calls(system, *LISTS) - lists
    of_day = [message async for message in _messages(system) if message.sent_at >= began_at]
    messages = [message for message in of_day if start <= message.sent_at < end]
    versions = await _versions(system)
    hints = [hint async for hint in _sweep_hints(system) if hint.asked_at >= began_at]
    late = [(message, _seconds_late(message, versions[message.tid])) for message in messages]
    shown = [(message, seconds) for message, seconds in late if seconds is not None]
    return Outcome(
        messages=messages,
        calls=calls - sum(start <= hint.asked_at < end for hint in hints),
        changes=changes,
        never_shown=len(late) - len(shown),
        urgent_seconds=sorted(seconds for message, seconds in shown if not message.may_linger),
        lingering_seconds=sorted(seconds for message, seconds in shown if message.may_linger),
        swept=by_cause(hints, versions, lists),
        of_day=len(of_day),
    )


def by_cause(hints: Iterable[SweepHint], versions: Mapping[int, Sequence[Version]], lists: int) -> SweepCalls:
    """Why sweeps have asked for orders: what of them was published by then decides."""
    proofs = newer = refunds = 0
    for hint in hints:
        known = [each.modified for each in versions[hint.tid] if each.published_at <= hint.asked_at]
        if hint.of_refund:
            refunds += 1
        elif (
            hint.modified is not None and max(known, default=datetime.min.replace(tzinfo=UTC)) < hint.modified
        ):
            newer += 1
        else:
            proofs += 1
    return SweepCalls(proofs, newer, refunds, lists)


async def _until_quiet(system: System, began_at: datetime) -> None:
    """Wait until all messages are confirmed, all hints are read, nothing must be asked again and sweeps have
    proven every order.
    """
    async with asyncio.timeout(BOUND_SECONDS):
        before, quiet = -1, 0
        while quiet < QUIET_LOOKS:
            await asyncio.sleep(POLL_SECONDS)
            calls = await _calls(system)
            ledger = cast("Mapping[str, Mapping[str, int]]", await system.admin("GET", "/ledger"))
            waiting = ledger["channel"]["in_flight"] + await _value(system, "select count(*) from refetches")
            waiting += await _unproven(system, began_at)
            quiet = quiet + 1 if calls == before and not waiting else 0
            before = calls


async def _calls(system: System, *apis: str) -> int:
    """Calls of these, or of the detail."""
    ledger = cast("Mapping[str, Any]", await system.admin("GET", "/ledger"))
    return sum(int(ledger["gateway"]["apis"].get(api, {}).get("total", 0)) for api in apis or (FULLINFO,))


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
    """The messages about orders, as push has written them; without the hints that ask again."""
    async for record in _records(system, topics.registry(_kafka(system)).changes):
        change = Change.model_validate_json(record.value or b"")
        if change.source is Source.PUSH and change.reason is None:
            yield Message(change.tid, change.event, change.occurred_at)


async def _sweep_hints(system: System) -> AsyncIterator[SweepHint]:
    """What sweeps have asked for; what was asked for again because of it is not counted."""
    async for record in _records(system, topics.registry(_kafka(system)).changes):
        change = Change.model_validate_json(record.value or b"")
        if change.source is Source.SWEEP and change.event == "listed":
            yield SweepHint(change.tid, change.modified, change.refund_id is not None, change.received_at)


async def _versions(system: System) -> Mapping[int, Sequence[Version]]:
    """The versions of each order that a subscriber has seen, in order."""
    found: defaultdict[int, list[Version]] = defaultdict(list)
    async for record in _records(system, topics.registry(_kafka(system)).orders):
        about = cloud_events.attributes(record.headers)
        # Kafka's time: `publishedat` is the enricher's estimate of the platform's clock.
        published_at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
        version = Version(published_at, parse_instant(about["time"]))
        found[int(about["subject"])].append(version)
    return found


def _seconds_late(message: Message, versions: Sequence[Version]) -> float | None:
    """How many seconds after a message its state was published; None if it never was."""
    second = platform_time.floor_to_second(message.sent_at)
    for version in versions:
        # A message may be published in the second after its change: then its state may be the version before.
        is_last = version is versions[-1] and version.modified >= second - platform_time.RESOLUTION
        if version.modified >= second or is_last:
            return max(0.0, (version.published_at - message.sent_at).total_seconds())
    return None


def _kafka(system: System) -> KafkaSettings:
    return KafkaSettings(
        kafka_bootstrap_servers=system.servers.kafka_bootstrap_servers,
        partitions=int(system.environment["TOPSYNC_PARTITIONS"]),
        replication_factor=1,
    )


async def _records(system: System, topic: Topic) -> AsyncIterator[ConsumerRecord[bytes, bytes]]:
    """All records that are in a topic now."""
    kafka = KafkaSettings(kafka_bootstrap_servers=system.servers.kafka_bootstrap_servers)
    partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
    async with clients.reader(kafka) as consumer:
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(partitions)
        while [tp for tp in partitions if await consumer.position(tp) < ends[tp]]:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    yield record
