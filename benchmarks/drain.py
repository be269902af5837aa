"""A thousand sellers that come back at once after an outage, drained by two reconcilers.

And what a look for due sellers costs a reconciler with 3,000 sellers, each with a gap.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast

from pydantic import SecretStr

from benchmarks.report import Report, Row
from reconciler.circuits import PullBrake
from reconciler.membership import Membership
from reconciler.plan import PullRules
from reconciler.pulls import Pulls
from reconciler.turns import PullTurns
from reconciler.under_way import UnderWay
from topsync.base.clock import ServerClock
from topsync.base.settings import (
    BudgetSettings,
    CircuitSettings,
    CoverageSettings,
    DatabaseSettings,
    ReconcilerSettings,
    VaultSettings,
)
from topsync.base.settings.calendar import usual_rules
from topsync.base.vault import Vault
from topsync.coverage.pull import Puller
from topsync.local import run_folders
from topsync.local.processes import ProcessGroup
from topsync.local.system import Scale, System, local_system
from topsync.model.calendar import Calendar
from topsync.model.scheme import Scheme
from topsync.platforms.port import ListRules
from topsync.sellers.sessions import Sessions
from topsync.store import database
from topsync.store.database import Pool

SELLERS: Final = 1000
CHANGES_PER_SELLER: Final = 2
CALLS_PER_SECOND: Final = 60
ANSWER_SECONDS: Final = 0.03
RECONCILERS: Final = 2
PARTITIONS: Final = 12
AWAY_SECONDS: Final = (300, 1200)
"""How long sellers were away, from and to; evenly in between."""
SPREAD_SECONDS: Final = 120
"""The sellers came back over this time before the drain begins."""

MANY_SELLERS: Final = 3000
LOOKS: Final = 20

FULLINFO: Final = "taobao.trade.fullinfo.get"
LISTS: Final = ("taobao.trades.sold.increment.get", "taobao.refunds.receive.get")

BOUND_SECONDS: Final = 280.0
POLL_SECONDS: Final = 0.25

SHARE_OF_RATE: Final = 0.95
CALLS_OF_LEAST: Final = 1.05

SETTINGS: Final = {
    "TOPSYNC_PARTITIONS": str(PARTITIONS),
    "TOPSYNC_CALLS_PER_SECOND": str(CALLS_PER_SECOND),
    "TOPSYNC_VISIBILITY_ALLOWANCE_SECONDS": "60",
    "TOPSYNC_OVERLAP_SECONDS": "60",
    "TOPSYNC_SWEEP_INTERVAL_SECONDS": "300",
    "TOPSYNC_RECONCILE_POLL_SECONDS": "0.5",
    "TOPSYNC_RECONCILE_CALM_SECONDS": "1",
}

SETUP: Final = (
    f"{SELLERS} sellers were away for {AWAY_SECONDS[0] / 60:g} to {AWAY_SECONDS[1] / 60:g} minutes, in which "
    f"{CHANGES_PER_SELLER} orders of each were created without a message; they have come back within "
    f"{SPREAD_SECONDS / 60:g} minutes, at least a minute ago, which is the visibility allowance here: so one "
    f"pull proves a gap. {RECONCILERS} reconcilers, one enricher with {PARTITIONS} partitions and the "
    f"simulator as processes on these cores; answers take {ANSWER_SECONDS * 1000:g} ms, and all processes "
    f"together may make {CALLS_PER_SECOND} calls a second. Measured from the moment at which the gaps are "
    "there until all are proven closed, with the simulator's ledger of calls. The least: for each seller a "
    "list of orders and a list of refunds, and for each order a detail. "
    f"The looks: one reconciler holds {MANY_SELLERS:,} sellers with an open gap each, medians of {LOOKS}."
)


@dataclass(frozen=True, slots=True)
class Drained:
    """What the drain took."""

    seconds: float
    calls: Mapping[str, int]
    """By API."""
    waits: Sequence[float]
    """Until the gap of each seller was closed; first the seller that came back last."""
    sellers: Sequence[int]
    """Of each reconciler."""


async def run() -> Report:
    """Drain, then look."""
    async with _system() as system:
        drained = await _drain(system)
        rows = _rows(drained)
        await system.kill("reconcile-0")
        await system.kill("reconcile-1")
        rows += await _looks(system)
    return Report("drain", SETUP, rows)


@asynccontextmanager
async def _system() -> AsyncIterator[System]:
    scale = Scale(sellers=SELLERS, orders=SELLERS * 2, rate=0)
    async with (
        ProcessGroup(run_folders.create()) as group,
        local_system(group, scale, settings=SETTINGS) as system,
    ):
        await system.admin("POST", "/answers", {"seconds": ANSWER_SECONDS})
        yield system


async def _drain(system: System) -> Drained:
    missed = await _change_orders(system)
    await system.start("enrich")
    for number in range(RECONCILERS):
        name = f"reconcile-{number}"
        command = system.command("reconcile")
        system.processes[name] = await system.group.start(name, command, env=system.environment)
    async with database.connect(database_of(system)) as pool:
        await until(pool, "select count(*) = $1 from partition_owners", PARTITIONS)
        await until(pool, SHARED, RECONCILERS, SELLERS // RECONCILERS)
        before = await calls_by_api(system)
        began = await _open_gaps(system, pool)
        await until(pool, "select not exists (select from gaps where closed_at is null)")
        system.require_running()
        assert missed == SELLERS * CHANGES_PER_SELLER
        waits = [float(row[0]) for row in await pool.fetch(WAITS, began)]
        after = await calls_by_api(system)
        return Drained(
            seconds=max(waits),
            calls={api: after.get(api, 0) - before.get(api, 0) for api in (*LISTS, FULLINFO)},
            waits=waits,
            sellers=[row[0] for row in await pool.fetch(OF_EACH)],
        )


def database_of(system: System) -> DatabaseSettings:
    url = SecretStr(system.environment["TOPSYNC_DATABASE_URL"])
    return DatabaseSettings(database_url=url, database_pool_size=4)


async def _change_orders(system: System) -> int:
    """Orders that no message announces; returns how many."""
    sellers: Any = await system.admin("GET", "/sellers")
    made = 0
    for seller in sellers:
        wish = {"user_id": seller["user_id"], "event": "create", "message": False}
        answer: Any = await system.admin("POST", "/orders", {**wish, "count": CHANGES_PER_SELLER})
        made += len(answer["changes"])
    return made


async def _open_gaps(system: System, pool: Pool) -> datetime:
    """As if push had come back for the sellers one after the other; returns when that is written."""
    await pool.execute("update sellers set state = 'live'")
    await pool.execute(OPEN_GAPS, await platform_time_of(system), *AWAY_SECONDS, SPREAD_SECONDS)
    return await platform_time_of(system)


async def platform_time_of(system: System) -> datetime:
    clock: Any = await system.admin("GET", "/clock")
    return datetime.fromisoformat(clock["utc"])


async def calls_by_api(system: System) -> dict[str, int]:
    """How many calls the platform has received, by API."""
    ledger: Any = await system.admin("GET", "/ledger")
    return {api: counts["total"] for api, counts in ledger["gateway"]["apis"].items()}


async def until(pool: Pool, query: str, *arguments: object) -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        while not await pool.fetchval(query, *arguments):  # noqa: ASYNC110 -- another process's doing
            await asyncio.sleep(POLL_SECONDS)


OPEN_GAPS: Final = """
with numbered as (
    select seller_id, row_number() over (order by seller_id) as n, count(*) over () as sellers from sellers
), away as (
    select
        seller_id,
        $1::timestamptz - make_interval(secs => 61 + $4::integer * n / sellers) as ended,
        -- Who came back last was not away longest: mixed by a prime.
        make_interval(
            secs => $2::integer + ($3::integer - $2::integer) * (n * 7919 % sellers) / sellers
        ) as lasted
    from numbered
), claimed as (
    insert into coverage (seller_id, proven, parts)
    select seller_id, tstzmultirange(tstzrange($1 - interval '80 days', ended - lasted)), '{refund}' from away
    on conflict (seller_id) do update set proven = excluded.proven
)
insert into gaps (seller_id, began, ended, cause, opened_at)
select seller_id, ended - lasted, ended, 'drain', $1 from away
"""
WAITS: Final = "select extract(epoch from closed_at - $1::timestamptz)::float8 from gaps order by ended desc"
SHARED: Final = """
select count(*) = $1 and min(sellers) >= $2
from (
    select count(key) as sellers
    from reconcilers left join work_leases on holder = id and kind = 'seller'
    group by id
) as each_one
"""
OF_EACH: Final = "select count(*) from work_leases where kind = 'seller' group by holder order by 1"


async def _looks(system: System) -> list[Row]:
    """How long a process with many sellers takes to renew its leases, and to see who is due."""
    vault = Vault(VaultSettings(token_keys=SecretStr(system.environment["TOPSYNC_TOKEN_KEYS"])))
    async with database.connect(database_of(system)) as pool, pool.acquire() as connection:
        await pool.execute(MANY, MANY_SELLERS - SELLERS)
        await pool.execute(OPEN_GAPS, await platform_time_of(system), *AWAY_SECONDS, SPREAD_SECONDS)
        membership = Membership(pool, (), 0.0)
        pulls = _pulls(pool, Sessions(pool, vault), await platform_time_of(system))
        await membership.look(connection, lambda _: True)
        await pulls.hold(membership.sellers)
        await pulls.look()
        renewals, looks = [], []
        for _ in range(LOOKS):
            begun = time.perf_counter()
            await membership.look(connection, lambda _: True)
            await pulls.hold(membership.sellers)
            renewals.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            await pulls.look()
            looks.append(time.perf_counter() - begun)
        assert len(membership.sellers) == MANY_SELLERS
        await membership.leave()
    return [
        _milliseconds("leases of 3,000 sellers renewed and shared, once a second", renewals),
        _milliseconds("who of 3,000 sellers with a gap each is due, once a second", looks),
    ]


MANY: Final = """
insert into sellers (seller_id, nick, session_cipher, state)
select 9000000000 + n, 'many ' || n, (select session_cipher from sellers limit 1), 'live'
from generate_series(1, $1::integer) as n
"""


def _clock(now: datetime) -> ServerClock:
    clock = ServerClock()
    clock.observe(now, sent=time.monotonic(), received=time.monotonic())
    return clock


def _pulls(pool: Pool, sessions: Sessions, now: datetime) -> Pulls:
    """What looks for due sellers, and pulls none."""
    calendar = Calendar(
        usual_rules(CoverageSettings(), ReconcilerSettings(), BudgetSettings(), CircuitSettings())
    )
    rules = PullRules(
        lists=ListRules(longest=timedelta(days=1), max_page_size=100, reaches_back=timedelta(days=90)),
        calendar=calendar,
        sweep_interval=timedelta(seconds=300),
        poll_interval=timedelta(seconds=60),
        gap_retry=timedelta(seconds=60),
    )
    return Pulls(
        rules=lambda _: rules,
        brake=PullBrake(timedelta(hours=1), frozenset()),
        pool=pool,
        puller=cast(Puller, None),
        sessions=sessions,
        clock=_clock(now),
        scheme=Scheme.AUTO,
        under_way=UnderWay(lambda: None),
        turns=PullTurns(16, 16),
    )


def _milliseconds(what: str, measured: Sequence[float]) -> Row:
    return Row(what=what, value=statistics.median(measured) * 1000, unit="ms", digits=1)


def _rows(drained: Drained) -> list[Row]:
    calls = sum(drained.calls.values())
    least = SELLERS * (len(LISTS) + CHANGES_PER_SELLER)
    quarter = len(drained.waits) // 4
    newest, oldest = drained.waits[:quarter], drained.waits[-quarter:]
    used = 100 * calls / (CALLS_PER_SECOND * drained.seconds)
    return [
        Row(what="until all gaps were proven closed", value=drained.seconds, unit="s", digits=1),
        Row(
            what="share of the permitted rate that was used",
            value=used,
            unit="%",
            at_least=100 * SHARE_OF_RATE,
        ),
        Row(
            what="calls beside the least possible",
            value=calls / least,
            unit="",
            at_most=CALLS_OF_LEAST,
            digits=3,
        ),
        *(Row(what=f"`{api}`", value=count, unit="calls") for api, count in drained.calls.items()),
        Row(what="wait of a seller, median", value=statistics.median(drained.waits), unit="s", digits=1),
        Row(what="the quarter that came back last", value=statistics.median(newest), unit="s", digits=1),
        Row(what="the quarter that came back first", value=statistics.median(oldest), unit="s", digits=1),
        Row(what="longest wait of a seller", value=max(drained.waits), unit="s", digits=1),
        Row(what="sellers of a reconciler, fewest", value=min(drained.sellers), unit=""),
        Row(what="sellers of a reconciler, most", value=max(drained.sellers), unit=""),
    ]
