"""The budget in PostgreSQL: many processes at once keep the rule of the pure part."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from aiohttp import web

from tests.store.databases import killable_postgres, settings_for
from tests.support import pace
from tests.support.eventually import eventually
from tests.support.places import ROOT
from topsync.base.settings import DatabaseSettings
from topsync.budget import leases
from topsync.budget.errors import CallLimitedError, Scope
from topsync.budget.gate import BudgetGate, GateConfig
from topsync.budget.leases import LEASE_SECONDS, Ask, TimeLine
from topsync.model.call_limits import APP, CallLimits
from topsync.model.priority import Priority
from topsync.store import call_budget, database, schema
from topsync.store.database import Pool
from topsync.store.shared_budget import SharedBook, open_book

API = "taobao.trades.sold.increment.get"
OTHER = "taobao.trade.fullinfo.get"

LATE_SECONDS = pace.seconds(0.2)
"""How much later than its permit a call may begin, or arrive, on a busy machine."""

HEARD_SECONDS = pace.seconds(0.05)
"""Within this time every process knows a stored ban; on an idle machine, within a millisecond. Places
that were leased before are valid longer, up to an eighth of a second.
"""


@dataclass
class Platform:
    """Counts calls as they arrive, and bans the app once when asked to."""

    url: str = ""
    calls: list[tuple[float, str]] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)
    ban_after: int | None = None
    banned_at: float | None = None
    ban_seconds: float = 1.5

    async def answer(self, request: web.Request) -> web.Response:
        now = time.monotonic()
        self.calls.append((now, request.query["priority"]))
        self.begun.append(float(request.query["begun"]))
        if self.banned_at is None and self.ban_after is not None and len(self.calls) >= self.ban_after:
            self.banned_at = now
            return web.json_response({"banned_seconds": self.ban_seconds})
        return web.json_response({})

    def most_within(self, seconds: float) -> int:
        """The largest number of calls that began within this time."""
        moments = sorted(self.begun)
        return max(
            sum(first <= moment < first + seconds for moment in moments[index:])
            for index, first in enumerate(moments)
        )

    def priorities_of_busiest(self, seconds: float, *, until: float) -> Counter[str]:
        """The calls of each priority in the busiest span of `seconds`, before `until`."""
        calls = [(begun, priority) for begun, (_, priority) in zip(self.begun, self.calls, strict=True)]
        return max(
            (
                Counter(priority for begun, priority in calls if first <= begun < first + seconds)
                for first in self.begun
                if first + seconds <= until
            ),
            key=Counter.total,
        )


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    platform = Platform()
    app = web.Application()
    app.router.add_post("/", platform.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    platform.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield platform
    await runner.cleanup()


@pytest.fixture
def own(migrated_database_url: str) -> DatabaseSettings:
    return settings_for(migrated_database_url)


OpenBook = Callable[[CallLimits], AbstractAsyncContextManager[SharedBook]]


@pytest.fixture
def open_one(own: DatabaseSettings, pool: Pool) -> OpenBook:
    return lambda limits: open_book(own, pool, lambda: limits)


Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def start(own: DatabaseSettings, pool: Pool, platform: Platform) -> AsyncIterator[Start]:
    started: list[asyncio.subprocess.Process] = []

    async def start(callers: Mapping[str, int], *, limits: Mapping[str, Any]) -> asyncio.subprocess.Process:
        orders = {
            "database_url": own.database_url.get_secret_value(),
            "url": platform.url,
            "limits": limits,
            "api": API,
            "callers": callers,
        }
        root = ROOT
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.store.caller", orjson.dumps(orders).decode(),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def let_call(*processes: asyncio.subprocess.Process, seconds: float) -> float:
    """Make these processes call during the same seconds: on a busy machine, some start much earlier.

    Returns when they begin no more new calls.
    """
    for process in processes:
        assert process.stdout
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"ready\n"
    ends_at = time.monotonic() + seconds
    for process in processes:
        assert process.stdin
        process.stdin.write(f"{ends_at}\n".encode())
    return ends_at


def stop_calling(*processes: asyncio.subprocess.Process) -> None:
    """Let these begin no more calls."""
    for process in processes:
        assert process.stdin
        process.stdin.write(b"0\n")


async def report_of(process: asyncio.subprocess.Process) -> dict[str, dict[str, float]]:
    assert process.stdin
    process.stdin.close()
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    report: dict[str, dict[str, float]] = orjson.loads(output.splitlines()[-1])
    return report


async def test_the_statement_gives_the_same_answers_as_the_pure_rule(open_one: OpenBook) -> None:
    limits = CallLimits(
        calls_per_second=300, api_calls_per_second={API: 40}, calls_per_day=300, live_reserve=75
    )
    state: dict[str, TimeLine] = {}
    dice = random.Random(7)
    async with open_one(limits) as book:
        connection = await book.connect()
        for _ in range(300):
            ask = Ask(
                dice.choice(list(Priority)),
                dice.choice([APP, API]),
                dice.randint(1, 12),
                returned=dice.choice([0] * 9 + [1]),
            )
            grant = await call_budget.lease(connection, limits, ask, timeout_seconds=5)
            expected = leases.lease(state, limits, ask, grant.answered_at)
            assert (grant.calls, grant.day_is_spent, grant.spent) == (
                expected.calls, expected.day_is_spent, expected.spent,
            )  # fmt: skip
            assert grant.starts_in_seconds == pytest.approx(expected.starts_in_seconds, abs=1e-4)
            assert grant.again_in_seconds == pytest.approx(expected.again_in_seconds, abs=1e-4)
            await asyncio.sleep(dice.choice([0, 0, 0.003, 0.02]))
    assert state[APP].spent == 300


async def test_many_processes_together_keep_to_the_limit_and_every_priority_gets_its_share(
    start: Start, platform: Platform
) -> None:
    # Few enough for a slow machine to use them up: the first priorities go first only where calls are scarce.
    limit = 25
    everybody = {priority.name: 2 for priority in Priority}
    processes = [
        await start(callers, limits={"calls_per_second": limit})
        for callers in ({"LIVE": 8}, {"SWEEP": 8}, everybody, everybody)
    ]
    ends_at = await let_call(*processes, seconds=5)
    reports = [await report_of(process) for process in processes]
    for window in (0.1, 0.5, 1.0):
        assert platform.most_within(window) <= 1 + limit * (window + LEASE_SECONDS + LATE_SECONDS)
    # Over the whole run the number of calls is exactly within the limit.
    ran = max(platform.begun) - min(platform.begun)
    assert len(platform.calls) <= 1 + limit * (ran + LEASE_SECONDS)
    # The limit is used, and then the live priority goes first. A machine that sometimes stands still
    # wastes calls of other seconds.
    busiest = platform.priorities_of_busiest(2, until=ends_at)
    assert busiest.total() >= 0.8 * limit * 2
    assert busiest[Priority.LIVE.label] >= 0.5 * busiest.total()
    by_priority = Counter(priority for _, priority in platform.calls)
    for priority, share in leases.GUARANTEED_SHARES.items():
        assert by_priority[priority.label] >= 0.6 * share * len(platform.calls)
    # Fair within a priority: each process of the live priority gets calls.
    live = [report["made"].get("live", 0) for report in reports]
    assert min(live[0], live[2], live[3]) >= 0.1 * sum(live)


async def test_a_ban_that_a_process_meets_stops_all_processes_until_it_is_over(
    start: Start, platform: Platform
) -> None:
    platform.ban_after = 150
    processes = [await start({"LIVE": 16}, limits={"calls_per_second": 150}) for _ in range(3)]
    await let_call(*processes, seconds=60)
    await eventually(lambda: platform.banned_at is not None)
    assert platform.banned_at is not None
    over_at = platform.banned_at + platform.ban_seconds
    await eventually(lambda: sum(at >= over_at for at in platform.begun) > 50)
    stop_calling(*processes)
    reports = [await report_of(process) for process in processes]
    (stored_at,) = (report["ban_stored"]["at"] for report in reports if report["ban_stored"])
    # The news takes at most a turn of each process; its own calls stopped when it read the answer.
    assert not [at for at in platform.begun if stored_at + HEARD_SECONDS < at < over_at]
    assert not [at for at, _ in platform.calls if stored_at + LATE_SECONDS < at < over_at]


async def test_a_process_that_dies_takes_no_more_than_its_lease_with_it(
    start: Start, platform: Platform
) -> None:
    limit = 50
    limits = {"calls_per_second": limit}
    dying = await start({"LIVE": 64}, limits=limits)
    living = await start({"LIVE": 16}, limits=limits)
    await let_call(dying, seconds=30)
    await eventually(lambda: len(platform.calls) > 30)
    await let_call(living, seconds=3)
    dying.kill()
    await dying.wait()
    before = len(platform.calls)
    report = await report_of(living)
    assert report["made"]["live"] >= 0.8 * limit * 2
    assert len(platform.calls) - before >= 0.8 * limit * 2


async def test_an_idle_budget_admits_at_once(open_one: OpenBook) -> None:
    async with open_one(CallLimits(calls_per_second=20)) as book:
        gate = BudgetGate(book)
        async with gate.admit(API, Priority.LIVE):
            pass
        await asyncio.sleep(1 / 20)
        asked = time.monotonic()
        async with gate.admit(API, Priority.SWEEP):
            assert time.monotonic() - asked < pace.seconds(0.5)


async def test_the_longer_of_two_bans_counts_and_a_ban_announced_twice_does_not_become_longer(
    open_one: OpenBook, pool: Pool
) -> None:
    async with open_one(CallLimits()) as mine, open_one(CallLimits()) as others:
        gates = [BudgetGate(book, GateConfig(ban_jitter_seconds=0.0)) for book in (mine, others)]
        for gate, seconds in zip(gates * 2, (60, 20, 60, 20), strict=True):
            await gate.ban(Scope.APP_API, API, seconds)
        await eventually(lambda: all(gate.closed_for_seconds(API) > 50 for gate in gates))
        assert all(gate.closed_for_seconds(API) <= 60 for gate in gates)
        assert all(gate.closed_for_seconds(OTHER) == 0 for gate in gates)
        assert [ban.scope for ban in await call_budget.bans(pool)] == [API]


async def test_a_process_that_needs_no_lease_learns_of_a_ban_before_it_uses_its_place(
    open_one: OpenBook,
) -> None:
    async with open_one(CallLimits()) as mine, open_one(CallLimits()) as others:
        holder = BudgetGate(mine, GateConfig(max_in_flight=1, max_wait_seconds=10))
        async with holder.admit(API, Priority.LIVE):
            # It has a place and no free slot, so it has nothing to ask the book for.
            waiting = asyncio.create_task(holder.enter(API, Priority.LIVE))
            await eventually(lambda: any(queue.places for queue in holder._room.queues))
            await BudgetGate(others).ban(Scope.APP, API, 60)
            with pytest.raises(CallLimitedError, match="banned"):
                await waiting


async def test_a_process_that_starts_during_a_ban_makes_no_call(open_one: OpenBook) -> None:
    async with open_one(CallLimits()) as book:
        await BudgetGate(book).ban(Scope.APP, API, 60)
    async with open_one(CallLimits()) as book:
        gate = BudgetGate(book, GateConfig(max_wait_seconds=1))
        with pytest.raises(CallLimitedError, match="banned"):
            await gate.admit(OTHER, Priority.LIVE).__aenter__()


async def test_the_days_quota_holds_for_all_and_its_reserve_for_the_live_priority(
    open_one: OpenBook, pool: Pool
) -> None:
    limits = CallLimits(calls_per_second=500, calls_per_day=60, live_reserve=20)
    async with open_one(limits) as first, open_one(limits) as other:
        gates = [BudgetGate(book, GateConfig(max_in_flight=1)) for book in (first, other)]
        made = Counter[Priority]()

        async def use_up(priority: Priority) -> None:
            for number in range(100):
                async with gates[number % 2].admit(API, priority):
                    made[priority] += 1

        for priority in (Priority.SWEEP, Priority.LIVE):
            with pytest.raises(CallLimitedError, match="used up") as caught:
                await use_up(priority)
            assert caught.value.scope is Scope.APP
            assert 0 < caught.value.wait_seconds <= 86_400
        # Later leases give unused places back, so a process holds few of them.
        assert 30 <= made[Priority.SWEEP] <= 40
        assert sum(made.values()) <= 60
        assert await call_budget.spent_today(pool) <= 60


async def test_a_new_day_of_the_platform_begins_with_the_whole_quota(open_one: OpenBook, pool: Pool) -> None:
    limits = CallLimits(calls_per_second=500, calls_per_day=1)
    async with open_one(limits) as book:
        ask = Ask(Priority.LIVE, APP, 5)
        assert (await book.lease(ask)).calls == 1
        assert (await book.lease(ask)).day_is_spent
        await pool.execute("update call_budget set day = day - 1")
        assert (await book.lease(ask)).calls == 1


async def test_without_the_database_nothing_is_called_and_calls_resume_when_it_is_back() -> None:
    begun: list[float] = []
    async with killable_postgres() as postgres:
        own = DatabaseSettings.model_validate({"database_url": postgres.url})
        limits = CallLimits(calls_per_second=100)
        await schema.migrate(own)
        async with database.connect(own) as pool, open_book(own, pool, lambda: limits) as book:
            gate = BudgetGate(book, GateConfig(ban_jitter_seconds=0.0))

            async def caller() -> None:
                while True:
                    async with gate.admit(API, Priority.LIVE):
                        begun.append(time.monotonic())

            callers = [asyncio.create_task(caller()) for _ in range(20)]
            await eventually(lambda: len(begun) > 50)
            await postgres.kill()
            gone_at = time.monotonic()
            await eventually(lambda: time.monotonic() > gone_at + LEASE_SECONDS)
            # A ban during an outage of the book is kept, and announced as soon as the book is back.
            await gate.ban(Scope.APP_API, OTHER, 300)
            await postgres.restart()
            back_at = time.monotonic()
            await eventually(lambda: begun[-1] > back_at)
            assert not [at for at in begun if gone_at + LEASE_SECONDS < at < back_at - 1]
            made = len(begun)
            await eventually(lambda: len(begun) > made + 50, within_seconds=5)
            assert [ban.scope for ban in await call_budget.bans(pool)] == [OTHER]
            for task in callers:
                task.cancel()
            await asyncio.gather(*callers, return_exceptions=True)


def test_a_ban_is_read_as_it_is_announced() -> None:
    assert call_budget.read_notification(f"{API} 12.5") == (API, 12.5)


async def test_limits_that_a_sale_brings_hold_from_the_next_lease_on_and_end_with_it(
    own: DatabaseSettings, pool: Pool
) -> None:
    """Also for an API that had no limit, and for callers who began to wait while it had one."""
    usual = CallLimits(calls_per_second=1000)
    in_force = [usual]
    async with open_book(own, pool, lambda: in_force[0]) as book:
        in_force[0] = CallLimits(calls_per_second=1000, api_calls_per_second={API: 10})
        ask = Ask(Priority.LIVE, book.limits.scope_of(API), 50)
        assert ask.scope == API
        assert (await book.lease(ask)).calls <= 2
        in_force[0] = usual
        assert (await book.lease(ask)).calls > 2
