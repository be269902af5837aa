"""A process that calls as often as it may: `python -m tests.store.caller`, with a JSON document of orders.

It prints `ready`, reads from standard input until when to call (a later line changes that), and prints one
JSON line when it ends: calls made by priority, and when a ban that it met was stored. Moments are of the
monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter

import httpx
import orjson

from topsync.base.settings import DatabaseSettings
from topsync.budget.errors import CallLimitedError, Scope
from topsync.budget.gate import BudgetGate, GateConfig
from topsync.model.call_limits import CallLimits
from topsync.model.priority import Priority
from topsync.store import database
from topsync.store.shared_budget import open_book


async def main() -> None:
    orders = orjson.loads(sys.argv[1])
    limits = CallLimits(**orders["limits"])
    own = DatabaseSettings.model_validate({"database_url": orders["database_url"], "database_pool_size": 2})
    made: Counter[str] = Counter()
    stored: dict[str, float] = {}
    async with (
        database.connect(own) as pool,
        open_book(own, pool, lambda: limits) as book,
        httpx.AsyncClient(limits=httpx.Limits(max_connections=64)) as http,
    ):
        gate = BudgetGate(book, GateConfig(max_in_flight=64, max_wait_seconds=30, ban_jitter_seconds=0.0))

        async def call(api: str, priority: Priority) -> None:
            async with gate.admit(api, priority):
                begun = {"begun": str(time.monotonic())}
                answer = await http.post(orders["url"], params={"priority": priority.label, **begun})
                made[priority.label] += 1
                if banned_seconds := answer.json().get("banned_seconds"):
                    await gate.ban(Scope.APP, api, banned_seconds)
                    stored["at"] = time.monotonic()

        async def caller(api: str, priority: Priority) -> None:
            while time.monotonic() < ends_at:
                try:
                    await call(api, priority)
                except CallLimitedError:
                    return

        sys.stdout.buffer.write(b"ready\n")
        sys.stdout.buffer.flush()
        ends_at = float(await asyncio.to_thread(sys.stdin.readline))

        async def hear() -> None:
            nonlocal ends_at
            while line := await asyncio.to_thread(sys.stdin.readline):
                ends_at = float(line)

        hearing = asyncio.create_task(hear())
        async with asyncio.TaskGroup() as tasks:
            for name, callers in orders["callers"].items():
                for _ in range(callers):
                    tasks.create_task(caller(orders["api"], Priority[name]))
        await hearing
    sys.stdout.buffer.write(orjson.dumps({"made": made, "ban_stored": stored}) + b"\n")


if __name__ == "__main__":
    asyncio.run(main())
