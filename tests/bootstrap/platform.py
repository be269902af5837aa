"""A platform in memory behind the port, and a bulk start on it: the database is real, and so are the files.

Its orders are created one a day. What goes wrong is set by the day on which a slice begins. Whatever is
handed to the writers is stored at once, unless a test says otherwise.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import cast

import orjson
from pydantic import SecretStr

from bootstrap.certifying import Certifier
from bootstrap.counted_spans import LongestCount
from bootstrap.job import BootstrapJob
from bootstrap.progress import SellerProgress
from bootstrap.pulse import Pulse
from bootstrap.start import Start
from bootstrap.turns import LoadingTurns
from schemas import cloud_events, platform_time
from schemas.certificate import Certificate, read
from schemas.change import Change
from schemas.platform_object import WireForm
from schemas.refund import Refund
from schemas.trade import Trade
from tests.platforms.taobao.test_export_file import line, packed, refund_line
from tests.store.databases import SELLER, all_unpublished, emptied, platform_refund, platform_trade
from tests.support.calendars import calendar_of
from topsync.base.clock import ServerClock
from topsync.base.settings import BootstrapSettings, CoverageSettings, KafkaSettings
from topsync.coverage.created import CreatedLister
from topsync.coverage.pull import Puller
from topsync.model.equations import problems
from topsync.model.kind import Kind
from topsync.model.priority import Priority
from topsync.model.scheme import Scheme
from topsync.model.slice import Slice
from topsync.model.span import Span
from topsync.platforms.created_port import CreatedAnswer, CreatedOrder, CreatedPage
from topsync.platforms.detail_task_port import (
    DetailsBrought,
    DetailTaskAccepted,
    DetailTaskFailed,
    DetailTaskRequested,
    DetailTaskState,
    DetailTaskUnfinished,
)
from topsync.platforms.export_port import (
    DownloadFailed,
    ExportAccepted,
    ExportAnswer,
    ExportFailed,
    ExportLine,
    ExportLost,
    ExportReady,
    ExportRefused,
    ExportState,
    ExportUnfinished,
    ExportWithoutFile,
)
from topsync.platforms.port import (
    DetailAnswer,
    ListAnswer,
    ListPage,
    ListRules,
    Lists,
    NotThere,
    Refused,
    SessionRefusedError,
    Shown,
)
from topsync.platforms.session_port import Subscriptions
from topsync.platforms.taobao import export_file
from topsync.platforms.taobao.details import read_order
from topsync.sellers.sessions import Account
from topsync.store import certificates, coverage, orders, refunds, sellers, slices
from topsync.store.database import Pool
from topsync.store.export_hints import ExportHints
from topsync.store.export_requests import ExportRequests
from topsync.store.orders import OrderVersion
from topsync.store.refunds import RefundVersion
from topsync.stream.producer import Producer
from topsync.stream.records import Record
from topsync.stream.topics import registry

DAYS = 10
START = datetime(2025, 11, 20, 7, 30, tzinfo=UTC)
"""15:30 for the platform."""

REACHES_BACK = timedelta(days=DAYS + 1)
"""How far back the lists show anything."""

DAY_ZERO = date(2025, 11, 20)
FIRST_DAY = DAY_ZERO - timedelta(days=DAYS)
TID = 4000000000000000000
FIRST_TASK = 100
SESSION = "a session"
MD5 = "0" * 32
KAFKA = KafkaSettings.model_validate({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "topic_prefix": "test"})


@dataclass(frozen=True, slots=True)
class Task:
    """A task of an export, as the platform keeps it."""

    kind: Kind
    first_day: date
    last_day: date
    failed_before: int


@dataclass
class Platform:
    """All parts of the port, from what a test has put there."""

    orders: dict[int, CreatedOrder] = field(default_factory=dict)
    refunds: dict[int, tuple[int, datetime]] = field(default_factory=dict)
    """The order and `modified` of each."""
    exported_kinds: frozenset[Kind] = frozenset({Kind.ORDER})
    refused: dict[date | Kind, str] = field(default_factory=dict)
    """Which exports are refused, by a slice's first day or by kind, and how."""
    failing: set[date] = field(default_factory=set)
    lost: set[date] = field(default_factory=set)
    forgotten: set[int] = field(default_factory=set)
    """Tasks that are lost, by their ids."""
    given_up: set[int] = field(default_factory=set)
    """Tasks that failed, by their ids."""
    undownloadable: set[date] = field(default_factory=set)
    unfinished: set[date] = field(default_factory=set)
    lines_of: dict[date, list[bytes]] = field(default_factory=dict)
    """What the file of a slice holds instead of its orders."""
    refund_lines: list[bytes] | None = None
    """What files of refunds hold instead of the refunds."""
    unreadable: set[date] = field(default_factory=set)
    """Files that are none."""
    adopted_at: dict[date, datetime] = field(default_factory=dict)
    """Tasks that the platform has already, by a slice's first day, and since when."""
    not_exported: set[int] = field(default_factory=set)
    not_listed: set[int] = field(default_factory=set)
    list_refused: str | None = None
    longest_refund_window: timedelta | None = None
    refund_list_refused: str | None = None
    counts: bool = True
    session_refused: bool = False
    ahead: timedelta = timedelta(0)
    """How far the clock has been put forward."""
    tasks: dict[int, Task] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[date, date]] = field(default_factory=list)
    """The days of each export that was asked for, refused or not."""

    @property
    def kinds(self) -> frozenset[Kind]:
        return self.exported_kinds

    def create(self, number: int, day: date, *, second: int = 36_000) -> int:
        """An order that was created on this day, at ten o'clock, and changed a minute later."""
        created = platform_time.start_of(day) + timedelta(seconds=second)
        self.orders[TID + number] = CreatedOrder(created, created + timedelta(minutes=1))
        return TID + number

    def file_of(self, *ids: int) -> list[bytes]:
        """The lines that an export has of these orders."""
        return [line_of(id_, self.orders[id_]) for id_ in ids]

    async def request(
        self,
        kind: Kind,
        session: SecretStr,
        first_day: date,
        last_day: date,
        *,
        failed_before: int,
        known_tasks: Collection[int],
    ) -> ExportAnswer:
        del session, known_tasks
        self._call("request")
        self.requests.append((first_day, last_day))
        if (why := self.refused.get(first_day) or self.refused.get(kind)) is not None:
            return ExportRefused(why, whole_application=True)
        asked = Task(kind, first_day, last_day, failed_before)
        for task_id, known in self.tasks.items():
            if known == asked:
                return ExportAccepted(task_id, None, adopted=True)
        task_id = FIRST_TASK + len(self.tasks)
        self.tasks[task_id] = asked
        created_at = self.adopted_at.get(first_day)
        return ExportAccepted(task_id, created_at, adopted=created_at is not None)

    async def state(self, task_id: int, **_: object) -> ExportState:
        self._call("state")
        task = self.tasks[task_id]
        if task.first_day in self.lost or task_id in self.forgotten:
            return ExportLost("gone")
        if task.first_day in self.failing or task_id in self.given_up:
            return ExportFailed()
        if task.first_day in self.unfinished:
            return ExportUnfinished(running=True)
        if not self._lines(task):
            return ExportWithoutFile()
        return ExportReady(str(task_id), MD5)

    async def download(self, ready: ExportReady, target: Path) -> int | DownloadFailed:
        self._call("download")
        task = self.tasks[int(ready.location)]
        if task.first_day in self.undownloadable:
            return DownloadFailed("cut off")
        return _write(target, None if task.first_day in self.unreadable else self._lines(task))

    def lines(self, kind: Kind, path: Path, *, skip: int = 0) -> Iterator[ExportLine]:
        return export_file.read(kind, path, max_bytes=10**9, max_ratio=200, skip=skip)

    def _lines(self, task: Task) -> list[bytes]:
        if (given := self.lines_of.get(task.first_day)) is not None:
            return given
        span = Span(
            platform_time.start_of(task.first_day),
            platform_time.start_of(task.last_day + timedelta(days=1)),
        )
        if task.kind is Kind.REFUND and self.refund_lines is not None:
            return self.refund_lines
        if task.kind is Kind.REFUND:
            return [
                refund_line_of(id_, order_id, modified)
                for id_, (order_id, modified) in self.refunds.items()
                if id_ not in self.not_exported and span.start <= modified < span.end
            ]
        return [
            line_of(id_, order)
            for id_, order in self.orders.items()
            if id_ not in self.not_exported and order.created and span.start <= order.created < span.end
        ]

    async def created_page(
        self,
        session: SecretStr,
        window: Span,
        *,
        page_no: int,
        page_size: int,
        counting: bool,
        priority: Priority,
    ) -> CreatedAnswer:
        del session, priority
        self._call("count" if page_size == 1 else "created_page")
        if self.list_refused is not None:
            return Refused(self.list_refused, whole_kind=True)
        if window.start < platform_time.start_of(platform_time.day_of(START + self.ahead) - REACHES_BACK):
            return Refused("too long ago", whole_kind=False)
        if page_size == 1 and not self.counts:
            return CreatedPage(None, has_next=True, orders={})
        inside = sorted(
            (
                (order.created, id_)
                for id_, order in self.orders.items()
                if order.created and window.start <= order.created <= window.end
                if id_ not in self.not_listed
            ),
            reverse=True,
        )
        page = inside[(page_no - 1) * page_size : page_no * page_size]
        has_next = None if counting else len(inside) > page_no * page_size
        total = len(inside) if counting else None
        return CreatedPage(total, has_next, {id_: self.orders[id_] for _, id_ in page})

    async def list_page(
        self,
        kind: Kind,
        session: SecretStr,
        window: Span,
        *,
        page_no: int,
        page_size: int,
        counting: bool,
        priority: Priority,
    ) -> ListAnswer:
        del session, priority
        self._call(f"list_{kind}")
        if kind is Kind.REFUND and self.refund_list_refused is not None:
            return Refused(self.refund_list_refused, whole_kind=True)
        longest = self.longest_refund_window
        if kind is Kind.REFUND and longest is not None and window.end - window.start > longest:
            return Refused("isv.parameters-mismatch", whole_kind=False)
        if kind is Kind.ORDER:
            times = {id_: order.modified for id_, order in self.orders.items()}
        else:
            times = {
                id_: modified for id_, (_, modified) in self.refunds.items() if id_ not in self.not_listed
            }
        inside = sorted(
            ((modified, id_) for id_, modified in times.items() if window.start <= modified <= window.end),
            reverse=True,
        )
        page = {id_: modified for modified, id_ in inside[(page_no - 1) * page_size : page_no * page_size]}
        order_of = {id_: self.refunds[id_][0] for id_ in page} if kind is Kind.REFUND else {}
        return ListPage(len(inside) if counting else None, page, order_of)

    async def detail(self, kind: Kind, session: SecretStr, id_: int, priority: Priority) -> DetailAnswer:
        del session, priority
        self._call(f"detail_{kind}")
        if kind is Kind.ORDER:
            return read_order(trade_of(id_, self.orders[id_])) if id_ in self.orders else NotThere()
        order_id, modified = self.refunds[id_]
        refund = refund_of(id_, order_id, modified)
        return Shown(refund, order_id, modified, refund.text.encode)

    async def subscribe(self, session: SecretStr, *, priority: Priority) -> Refused | None:
        del session, priority
        self._call("subscribe")
        return None

    def _call(self, name: str) -> None:
        self.calls[name] += 1
        if self.session_refused:
            raise SessionRefusedError("the session has ended")


class ListsOf:
    """The lists of a platform: those by creation and those by change have rules of the same name."""

    def __init__(self, platform: Platform, reaches_back: timedelta) -> None:
        self._platform, self._rules = platform, ListRules(timedelta(days=91), 100, reaches_back)
        self.list_page, self.created_page = platform.list_page, platform.created_page

    def rules(self, kind: Kind = Kind.ORDER) -> ListRules:
        del kind
        return self._rules


@dataclass
class DetailTasksOf:
    """The tasks of a platform that bring a hundred orders at a time."""

    platform: Platform
    asked: list[tuple[int, ...]] = field(default_factory=list)
    failing: set[int] = field(default_factory=set)
    """Tasks with one of these orders come to nothing."""
    is_done: bool = True
    max_orders: int = 100

    async def request(
        self, session: SecretStr, order_ids: Sequence[int], *, failed_before: int, priority: Priority
    ) -> DetailTaskRequested:
        del session, priority
        wanted = (failed_before, *order_ids)
        if wanted in self.asked:
            return DetailTaskAccepted(self.asked.index(wanted), adopted=True)
        self.asked.append(wanted)
        return DetailTaskAccepted(len(self.asked) - 1, adopted=False)

    async def state(self, task_id: int, *, priority: Priority) -> DetailTaskState:
        del priority
        if not self.is_done:
            return DetailTaskUnfinished()
        _, *ids = self.asked[task_id]
        if self.failing & set(ids):
            return DetailTaskFailed("a bad day")
        platform = self.platform
        found = {
            id_: read_order(trade_of(id_, platform.orders[id_])) for id_ in ids if id_ in platform.orders
        }
        return DetailsBrought(START, found)


def _write(target: Path, lines: Sequence[bytes] | None) -> int:
    """Write a file with these lines, or one that is none, and say its size."""
    if lines is None:
        return target.write_bytes(b"no zip")
    folder = target.parent / target.stem
    folder.mkdir(exist_ok=True)
    return packed(folder, b"\n".join(lines)).rename(target).stat().st_size


def trade_of(id_: int, order: CreatedOrder) -> dict[str, object]:
    """An order as the platform sends it."""
    assert order.created is not None
    created, modified = platform_time.format(order.created), platform_time.format(order.modified)
    return {**platform_trade(id_), "created": created, "modified": modified}


def refund_of(id_: int, order_id: int, modified: datetime) -> WireForm:
    text = platform_time.format(modified)
    return Refund.read({**platform_refund(id_, order_id), "created": text, "modified": text})


def line_of(id_: int, order: CreatedOrder) -> bytes:
    """An order's line of an export."""
    return line(**{**trade_of(id_, order), "tid": id_})


def refund_line_of(id_: int, order_id: int, modified: datetime) -> bytes:
    """A refund's line of an export."""
    text = platform_time.format(modified)
    return refund_line(**{**platform_refund(id_, order_id), "created": text, "modified": text})


class KilledError(BaseException):
    """In the place of the end of the process: nothing catches it."""


class Writing:
    """In the place of Kafka and the enrichers: what is published is stored, and published by them."""

    def __init__(self, pool: Pool, platform: Platform, clock: ServerClock) -> None:
        self._pool, self._platform, self._clock = pool, platform, clock
        self.published: list[Record] = []
        self.ignored: set[int] = set()
        """Orders whose records come to nothing; each is stored the second time."""
        self.dies_after: int | None = None
        """After so many more publications of orders or hints, the process dies."""
        self.dies_at_hint = False
        """The process dies instead of publishing the next hint."""
        self._epoch: int | None = None
        self._storing = asyncio.Lock()
        """A partition has one writer."""

    async def publish(self, published: Sequence[Record]) -> None:
        types = {cloud_events.attributes(record.headers)["type"] for record in published}
        if self.dies_at_hint and cloud_events.CHANGE_TYPE in types:
            self.dies_at_hint = False
            raise KilledError
        self.published += published
        async with self._storing:
            await self.store(published)
        if self.dies_after is None or not types & {cloud_events.SNAPSHOT_TYPE, cloud_events.CHANGE_TYPE}:
            return
        self.dies_after -= 1
        if not self.dies_after:
            self.dies_after = None
            raise KilledError

    async def store(self, published: Sequence[Record]) -> None:
        """Do what the enrichers do with these records."""
        found, parts = list[OrderVersion](), list[RefundVersion]()
        for record in published:
            kind = cloud_events.attributes(record.headers)["type"]
            if kind == cloud_events.SNAPSHOT_TYPE and b"refund_id" in (record.value or b""):
                refund = Refund.read(orjson.loads(record.value or b""))
                parts.append(RefundVersion(SELLER, refund, self._clock.now(), "bootstrap"))
            elif kind == cloud_events.SNAPSHOT_TYPE:
                found.append(self._version(Trade.read(orjson.loads(record.value or b""))))
            elif kind == cloud_events.CHANGE_TYPE:
                change = Change.model_validate_json(record.value or b"")
                if change.refund_id is not None:
                    order_id, modified = self._platform.refunds[change.refund_id]
                    refund = refund_of(change.refund_id, order_id, modified)
                    parts.append(RefundVersion(SELLER, refund, self._clock.now(), "bootstrap"))
                elif (order := self._platform.orders.get(change.tid)) is not None:
                    found.append(self._version(Trade.read(trade_of(change.tid, order))))
        found = [each for each in found if not self._is_ignored(each.trade.id("tid"))]
        if self._epoch is None:
            self._epoch = await orders.take_over(self._pool, 0, "test")
        await orders.TABLE.upsert(self._pool, found, partition=0, epoch=self._epoch)
        await orders.TABLE.mark_published(self._pool, await all_unpublished(self._pool, orders.TABLE))
        await refunds.TABLE.upsert(self._pool, parts, partition=0, epoch=self._epoch)
        await refunds.TABLE.mark_published(self._pool, await all_unpublished(self._pool, refunds.TABLE))

    def tids(self, type_: str) -> list[int]:
        """The orders of all records of a type, in the order in which they were published."""
        return [
            int(record.key or b"")
            for record in self.published
            if cloud_events.attributes(record.headers)["type"] == type_
        ]

    @property
    def are_refunds(self) -> list[bool]:
        """Whether each object or hint that was published is about a refund, in this order."""
        types = (cloud_events.SNAPSHOT_TYPE, cloud_events.CHANGE_TYPE)
        return [
            b"refund_id" in (record.value or b"")
            for record in self.published
            if cloud_events.attributes(record.headers)["type"] in types
        ]

    @property
    def snapshots(self) -> list[int]:
        return self.tids(cloud_events.SNAPSHOT_TYPE)

    @property
    def hints(self) -> list[int]:
        return self.tids(cloud_events.CHANGE_TYPE)

    def _version(self, trade: WireForm) -> OrderVersion:
        return OrderVersion(SELLER, trade, self._clock.now(), "bootstrap")

    def _is_ignored(self, tid: int) -> bool:
        if tid not in self.ignored:
            return False
        self.ignored.remove(tid)
        return True


@dataclass
class Bench:
    """A seller whose bulk start can be run, again and again, and all that it touches."""

    pool: Pool
    platform: Platform
    writing: Writing
    puller: Puller
    settings: BootstrapSettings
    detail_tasks: DetailTasksOf | None = None
    lists_by_creation: bool = True
    has_export: bool = True

    async def start(self) -> Start:
        seller = await sellers.get(self.pool, SELLER)
        assert seller is not None
        created = None
        if self.lists_by_creation:
            lists = cast("ListsOf", self.puller.lists)
            created = CreatedLister(self.puller.clock, lists, self.puller.settings)
        return Start(
            account=Account(seller, SecretStr(SESSION)),
            puller=self.puller,
            bulk_export=self.platform if self.has_export else None,
            created=created,
            detail_tasks=self.detail_tasks,
            hints=ExportHints(self.pool),
            topics=registry(KAFKA),
            settings=self.settings,
            requests=ExportRequests(self.pool),
            pulse=Pulse(),
            loading=LoadingTurns(2),
            pulling=LoadingTurns(2),
            longest_count=LongestCount(),
            progress=SellerProgress(SELLER, seller.nick),
        )

    async def job(self, scheme: Scheme = Scheme.AUTO) -> BootstrapJob:
        return BootstrapJob(
            start=await self.start(),
            scheme=scheme,
            subscriptions=cast("Subscriptions", self.platform),
            certifier=Certifier(None, timedelta(seconds=15)),
        )

    async def run(self, scheme: Scheme = Scheme.AUTO) -> Certificate:
        """The bulk start, and the certificate that it ends with."""
        await (await self.job(scheme)).run()
        found = await certificates.last(self.pool, SELLER)
        assert found is not None
        certificate = read(found.document).content
        assert problems(certificate) == []
        assert self.files() == []
        return certificate

    async def slices(self, kind: Kind = Kind.ORDER) -> list[Slice]:
        return [each for each in await slices.of_seller(self.pool, SELLER) if each.kind is kind]

    async def proven_from(self) -> datetime:
        """Since when the ledger claims everything."""
        return (await coverage.proven(self.pool))[SELLER][0].start

    def files(self) -> list[Path]:
        return self.settings.export_files(SELLER)


@asynccontextmanager
async def bulk_start(
    database_url: str, work_dir: Path, *, kinds: Sequence[Kind] = (Kind.ORDER,), **settings: object
) -> AsyncIterator[Bench]:
    """An order on each of the ten days before day zero, which are cut into five slices of two."""
    platform = Platform()
    for number in range(DAYS):
        platform.create(number, FIRST_DAY + timedelta(days=number))
    began = time.monotonic()
    clock = ServerClock(lambda: time.monotonic() - began + platform.ahead.total_seconds())
    clock.observe(START, sent=0, received=0)
    own = BootstrapSettings.model_validate(
        {
            "work_dir": work_dir,
            "export_days": DAYS,
            "slice_orders": 2,
            "export_poll_seconds": 0.01,
            "export_deadline_seconds": 0.5,
            **settings,
        }
    )
    topics = registry(KAFKA)
    async with emptied(database_url) as pool:
        writing = Writing(pool, platform, clock)
        puller = Puller(
            pool=pool,
            lists=cast("Lists", ListsOf(platform, REACHES_BACK)),
            details=platform,
            clock=clock,
            producer=cast("Producer", writing),
            changes_topic=topics.changes.name,
            settings=CoverageSettings(stored_within_seconds=2),
            calendar=calendar_of,
            detail_lag=timedelta(0),
            kinds=kinds,
        )
        yield Bench(pool, platform, writing, puller, own)
