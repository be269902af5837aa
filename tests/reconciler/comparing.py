"""The nightly comparison over a real database and the simulated platform, with a writer without Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, cast

from pydantic import SecretStr

from reconciler.comparing import NightlyComparison
from schemas import platform_time
from schemas.change import Change
from tests.budget.gates import local_gate
from tests.simulator.platform_client import small
from tests.store.databases import emptied
from tests.support.calendars import calendar_of
from topsync.base import retry
from topsync.base.clock import ServerClock
from topsync.base.settings import CoverageSettings, VaultSettings
from topsync.base.vault import Vault, new_key
from topsync.coverage.created import CreatedLister
from topsync.coverage.pull import Puller
from topsync.model.difference import Difference
from topsync.model.kind import Kind
from topsync.model.night import parse_hours
from topsync.model.priority import Priority
from topsync.model.scheme import Scheme
from topsync.model.span import Span
from topsync.platforms.port import Shown
from topsync.platforms.taobao.created import TaobaoCreatedLists
from topsync.platforms.taobao.details import TaobaoDetails
from topsync.platforms.taobao.gateway.client import GatewayConfig, TopClient
from topsync.platforms.taobao.lists import TaobaoLists
from topsync.sellers.sessions import Sessions
from topsync.simulator import refunds
from topsync.simulator.sellers import SimulatedSeller
from topsync.simulator.server import Simulator
from topsync.store import bootstraps, comparisons, coverage, orders, sellers
from topsync.store.database import Pool
from topsync.store.orders import OrderVersion
from topsync.store.refunds import RefundVersion
from topsync.store.version_tables import TABLES
from topsync.stream.producer import Producer
from topsync.stream.records import Record
from topsync.verify.comparison import PlatformComparison
from topsync.verify.day_comparison import DayComparer
from topsync.verify.reports import Reports

NIGHT = date(2025, 11, 20)
BEGINS_AT = platform_time.parse(f"{NIGHT} 02:10:00")
REPORT = f"night-{NIGHT}"
DAYS = 25
"""Of the bulk start: no others are compared."""


@dataclass
class Writer:
    """Takes hints as Kafka would, and does with them what the enrichers do."""

    pool: Pool
    details: TaobaoDetails
    clock: ServerClock
    sessions: dict[int, SecretStr]
    epoch: int = 0
    hints: list[Change] = field(default_factory=list)
    notifications: list[Record] = field(default_factory=list)
    idle: bool = False
    """Whether it takes hints and does nothing."""

    async def publish(self, published: Sequence[Record]) -> None:
        for record in published:
            if record.topic != "changes":
                self.notifications.append(record)
                continue
            hint = Change.model_validate_json(record.value or b"")
            self.hints.append(hint)
            if not self.idle:
                await self.write(hint.seller_id, Kind.ORDER, hint.tid)
                if hint.refund_id is not None:
                    await self.write(hint.seller_id, Kind.REFUND, hint.refund_id)

    async def write(self, seller_id: int, kind: Kind, id_: int) -> None:
        """Fetch an object, store it, and count it as published."""
        fetched_at = self.clock.now()
        answer = await self.details.detail(kind, self.sessions[seller_id], id_, Priority.SWEEP)
        if isinstance(answer, Shown):
            of = OrderVersion if kind.leads else RefundVersion
            version = of(seller_id, answer.value, fetched_at, "sweep")
            written = await TABLES[kind].upsert(self.pool, [version], partition=0, epoch=self.epoch)
            await TABLES[kind].mark_published(self.pool, written.ahead)


@dataclass
class Desk:
    """The duty, and all that it works on."""

    pool: Pool
    simulator: Simulator
    writer: Writer
    duty: NightlyComparison
    client: TopClient

    async def advance(self, by: timedelta) -> None:
        """Move the platform's clock, and see it."""
        self.simulator.clock.advance(by.total_seconds())
        await self.client.sync_clock()

    @property
    def sellers(self) -> Sequence[SimulatedSeller]:
        return self.simulator.sellers

    async def found(self, report: str = REPORT) -> list[Difference]:
        return await comparisons.differences(self.pool, report, limit=1000)

    async def how(self, report: str = REPORT) -> dict[int, tuple[str, str]]:
        return {each.id: (each.what.value, each.outcome.value) for each in await self.found(report)}

    async def some(self, seller: SimulatedSeller, count: int, kind: Kind = Kind.ORDER) -> list[int]:
        """Some of a seller's stored objects of past days, each of another day."""
        dated = "created" if kind.leads else "modified"
        rows = await self.pool.fetch(
            f"select min({kind.id_name}) as id, {dated}::date from {kind.plural} "
            f"where seller_id = $1 and {dated} < $2 group by 2 order by 1 limit $3",
            seller.user_id,
            platform_time.start_of(NIGHT) - timedelta(days=2),
            count,
        )
        return [row["id"] for row in rows]

    def another_process(self) -> NightlyComparison:
        """The duty of a process that has just started."""
        return NightlyComparison(
            self.duty.pool,
            self.duty.comparison,
            self.duty.sessions,
            self.duty.reports,
            self.duty.clock,
            self.duty.hours,
        )


@asynccontextmanager
async def comparing(
    database_url: str, *, hours: str = "02:00-06:00", copy_seconds: float = 0.3, **changes: Any
) -> AsyncIterator[Desk]:
    """Two sellers, all of whose orders and refunds are stored and published."""
    wish = {"orders": 60, "history_days": 20, "start_at": BEGINS_AT, **changes}
    vault, clock = Vault(VaultSettings(token_keys=SecretStr(new_key()))), ServerClock(doubt_seconds=0)
    async with Simulator(small(**wish)) as simulator, emptied(database_url) as pool:
        await pool.execute("truncate sellers cascade")
        config = GatewayConfig(
            url=simulator.addresses.gateway_url,
            app_key=simulator.settings.app_key,
            app_secret=SecretStr(simulator.settings.app_secret),
            retries=retry.Policy(max_attempts=2, first_wait_seconds=0.01, max_wait_seconds=0.02),
        )
        async with TopClient(config, clock, local_gate()) as client:
            await client.sync_clock()
            details = TaobaoDetails(client)
            writer = Writer(
                pool,
                details,
                clock,
                {seller.user_id: SecretStr(seller.session) for seller in simulator.sellers},
                epoch=await orders.take_over(pool, 0, "test"),
            )
            cover = CoverageSettings(
                visibility_allowance_seconds=0.2, stored_within_seconds=2, too_wide_wait_seconds=0
            )
            puller = Puller(
                pool=pool,
                lists=TaobaoLists(client),
                details=details,
                clock=clock,
                producer=cast("Producer", writer),
                changes_topic="changes",
                settings=cover,
                calendar=lambda: calendar_of(cover),
                detail_lag=timedelta(0),
                kinds=tuple(Kind),
            )
            created = CreatedLister(clock, TaobaoCreatedLists(client), puller.settings)
            sessions = Sessions(pool, vault)
            comparer = DayComparer(pool, puller, created, copy_time=timedelta(seconds=copy_seconds))
            duty = NightlyComparison(
                pool=pool,
                comparison=PlatformComparison(comparer, sessions, at_once=2),
                sessions=sessions,
                reports=Reports(pool, cast("Producer", writer), "notifications"),
                clock=clock,
                hours=parse_hours(hours),
            )
            await _bring_in(pool, simulator, writer, vault)
            yield Desk(pool, simulator, writer, duty, client)


async def _bring_in(pool: Pool, simulator: Simulator, writer: Writer, vault: Vault) -> None:
    """What a bulk start does."""
    start = platform_time.start_of(NIGHT) - timedelta(days=DAYS)
    for seller in simulator.sellers:
        await sellers.add(
            pool,
            seller_id=seller.user_id,
            nick=seller.nick,
            session_cipher=vault.encrypt(SecretStr(seller.session)),
        )
        async with pool.acquire() as connection:
            await sellers.set_live(connection, seller.user_id)
            await coverage.prove(connection, seller.user_id, Span(start, BEGINS_AT))
        await bootstraps.begin(
            pool,
            seller.user_id,
            scheme=Scheme.THREE,
            first_day=NIGHT - timedelta(days=DAYS),
            day_zero=NIGHT,
            at=BEGINS_AT,
        )
        book = simulator.world.book(seller)
        for number in book.numbers():
            trade = simulator.world.trade(seller, number)
            await writer.write(seller.user_id, Kind.ORDER, int(str(trade["tid"])))
            for refund in refunds.all_of(book, number):
                await writer.write(seller.user_id, Kind.REFUND, int(str(refund["refund_id"])))
