"""How many details per second a process fetches: the whole client, and bare HTTP clients in the same run.

The contestants take turns, about a second each, so that other load of the machine affects them all. Rates are
medians over the rounds; a ratio is the median of the ratios of the rounds.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import aiohttp
import httpx
import orjson
from pydantic import SecretStr

from benchmarks.report import Report, Row
from topsync.base.clock import ServerClock
from topsync.budget.book import LocalBook
from topsync.budget.gate import BudgetGate, GateConfig
from topsync.local import run_folders
from topsync.local.processes import ProcessGroup
from topsync.local.system import APP_KEY, APP_SECRET
from topsync.model.call_limits import CallLimits
from topsync.model.priority import Priority
from topsync.platforms.platform_port import CallRecord
from topsync.platforms.taobao.calls import trades
from topsync.platforms.taobao.calls.paging import MAX_PAGE_SIZE
from topsync.platforms.taobao.catalogue import FULLINFO_FIELDS
from topsync.platforms.taobao.gateway import platform_json, requests
from topsync.platforms.taobao.gateway.client import GatewayConfig, TopClient
from topsync.platforms.taobao.gateway.errors import CallOutcome
from topsync.platforms.taobao.gateway.requests import ApiRequest
from topsync.platforms.taobao.gateway.sign import SignMethod
from topsync.platforms.taobao.gateway.transport import HttpConfig, HttpTransport
from topsync.simulator.sellers import seller_of

IN_FLIGHT: Final = (64, 256)
ROUNDS: Final = 9
CALLS: Final = 4000
"""Calls of a contestant in a round."""

FEWER: Final = 20
"""httpx's own transport makes only a twentieth of them, or it would take longer than all others."""

TRADES: Final = 600
SEED: Final = 1
READY_SECONDS: Final = 60.0

TOPSYNC: Final = "topsync: the complete client"
AIOHTTP: Final = "bare aiohttp"
HTTPX: Final = "httpx with its own transport"
FORM_TYPE: Final = "application/x-www-form-urlencoded;charset=utf-8"

SESSION: Final = SecretStr(seller_of(SEED, 0).session)
_CLOCK: Final = ServerClock()

Fetch = Callable[[int], Awaitable[object]]
"""Fetches the trade of this index."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A server to call, and the trades that it has."""

    url: str
    tids: Sequence[int]

    def form(self, index: int) -> dict[str, str]:
        """A signed call, as `trades.fullinfo` makes it."""
        request = ApiRequest(
            "taobao.trade.fullinfo.get",
            {"fields": FULLINFO_FIELDS, "tid": self.tids[index], "include_oaid": "include_oaid"},
        )
        return requests.form(
            request,
            app_key=APP_KEY,
            app_secret=APP_SECRET,
            session=SESSION.get_secret_value(),
            now=_CLOCK.now(),
            sign_method=SignMethod.HMAC_SHA256,
        )


async def run() -> Report:
    """Start the servers, let the contestants take turns with both numbers of calls in flight, and report."""
    async with ProcessGroup(run_folders.create()) as group:
        simulated, replayed, sizes = await start_gateways(group)
        rows = [row for in_flight in IN_FLIGHT for row in await _compare(replayed, in_flight)]
        rows += [await _against_the_simulator(simulated, in_flight) for in_flight in IN_FLIGHT]
    setup = (
        "Each call is one `trades.fullinfo` on uvloop: gate (with a limit that never holds back), "
        f"retries, signature, HTTP, parsing, check of the id. {TRADES} different trades of the simulator, "
        f"{sizes}, are answered compressed, over "
        "HTTP/1.1 on kept loopback connections, by another process, `benchmarks.replay`, which checks "
        f"nothing, so that it is not the limit. *{AIOHTTP}*: one `ClientSession` posts forms that were "
        "signed and encoded beforehand and reads the bodies, decompressed; nothing is parsed. "
        f"*{HTTPX}*: the same with an `AsyncClient`. {ROUNDS} rounds of {CALLS:,} calls each, in turn "
        f"(of {CALLS // FEWER} with httpx's own); medians."
    )
    return Report("gateway", setup, rows)


async def _compare(gateway: Gateway, in_flight: int) -> list[Row]:
    rates: dict[str, list[float]] = {TOPSYNC: [], AIOHTTP: [], HTTPX: []}
    async with AsyncExitStack() as stack:
        contestants = {
            TOPSYNC: await stack.enter_async_context(complete_client(gateway, in_flight)),
            AIOHTTP: await stack.enter_async_context(_aiohttp(gateway, in_flight)),
            HTTPX: await stack.enter_async_context(_httpx(gateway, in_flight)),
        }
        for fetch in contestants.values():
            await rate(fetch, in_flight, in_flight)  # opens the connections
        for _ in range(ROUNDS):
            for name, fetch in contestants.items():
                number = CALLS // FEWER if name == HTTPX else CALLS
                rates[name].append(await rate(fetch, number, in_flight))
    ratio = statistics.median(ours / bare for ours, bare in zip(rates[TOPSYNC], rates[AIOHTTP], strict=True))
    return [
        Row(
            what=f"{in_flight} in flight: {TOPSYNC}",
            value=statistics.median(rates[TOPSYNC]),
            unit="details/s",
            at_least=2500,
        ),
        Row(
            what=f"{in_flight} in flight: {AIOHTTP}", value=statistics.median(rates[AIOHTTP]), unit="calls/s"
        ),
        Row(
            what=f"{in_flight} in flight: topsync / {AIOHTTP}",
            value=ratio,
            unit="",
            at_least=0.6,
            digits=2,
        ),
        Row(what=f"{in_flight} in flight: {HTTPX}", value=statistics.median(rates[HTTPX]), unit="calls/s"),
    ]


async def _against_the_simulator(gateway: Gateway, in_flight: int) -> Row:
    async with complete_client(gateway, in_flight) as fetch:
        await rate(fetch, in_flight, in_flight)
        rates = [await rate(fetch, CALLS // 4, in_flight) for _ in range(ROUNDS)]
    return Row(
        what=f"{in_flight} in flight: {TOPSYNC}, against one simulator, which limits it",
        value=statistics.median(rates),
        unit="details/s",
    )


async def rate(fetch: Fetch, number: int, in_flight: int) -> float:
    """Calls per second, for `number` calls of `in_flight` callers."""
    indices = iter(range(number))

    async def caller() -> None:
        for index in indices:
            await fetch(index % TRADES)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(in_flight):
            tasks.create_task(caller())
    return number / (time.perf_counter() - begun)


class _Client(TopClient):
    """The client, with the HTTP transport that is measured."""

    def __init__(
        self,
        config: GatewayConfig,
        gate: BudgetGate,
        observer: Callable[[CallRecord], None],
        transport: type[HttpTransport],
    ) -> None:
        super().__init__(config, _CLOCK, gate, observer=observer)
        self._http = transport(config.http, _CLOCK.monotonic)


@asynccontextmanager
async def _client(
    gateway: Gateway, in_flight: int, transport: type[HttpTransport] = HttpTransport
) -> AsyncIterator[TopClient]:
    """A client as `topsync/wiring/taobao.py` makes it, but without the shared budget and the metrics."""
    outcomes: Counter[str] = Counter()
    config = GatewayConfig(
        url=gateway.url,
        app_key=APP_KEY,
        app_secret=SecretStr(APP_SECRET),
        http=HttpConfig(max_connections=in_flight),
    )
    gate = BudgetGate(LocalBook(CallLimits(calls_per_second=1e6)), GateConfig(max_in_flight=in_flight))

    def note(record: CallRecord) -> None:
        outcomes[record.outcome] += 1

    async with _Client(config, gate, note, transport) as client:
        await client.sync_clock()
        yield client
    assert outcomes.keys() == {CallOutcome.OK}, f"some calls failed: {outcomes}"


@asynccontextmanager
async def complete_client(
    gateway: Gateway, in_flight: int, transport: type[HttpTransport] = HttpTransport
) -> AsyncIterator[Fetch]:
    """The whole client, over our own transport or another transport."""
    async with _client(gateway, in_flight, transport) as client:

        async def fetch(index: int) -> object:
            return await trades.fullinfo(client, SESSION, gateway.tids[index], Priority.LIVE)

        yield fetch


@asynccontextmanager
async def _aiohttp(gateway: Gateway, in_flight: int) -> AsyncIterator[Fetch]:
    forms = [requests.encoded(gateway.form(index)) for index in range(TRADES)]
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector, headers={"Content-Type": FORM_TYPE}) as session:

        async def fetch(index: int) -> object:
            async with session.post(gateway.url, data=forms[index]) as response:
                return await response.read()

        yield fetch


@asynccontextmanager
async def _httpx(gateway: Gateway, in_flight: int) -> AsyncIterator[Fetch]:
    forms = [requests.encoded(gateway.form(index)) for index in range(TRADES)]
    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    # A call waits for all calls before it: with 256 in flight that takes seconds.
    async with httpx.AsyncClient(limits=limits, headers={"Content-Type": FORM_TYPE}, timeout=60) as client:

        async def fetch(index: int) -> object:
            return (await client.post(gateway.url, content=forms[index])).content

        yield fetch


async def start_gateways(group: ProcessGroup) -> tuple[Gateway, Gateway, str]:
    """Start a simulator and a server that repeats its answers; also returns the answers' sizes in words."""
    simulated_url = await _simulate(group)
    bodies = await _record(simulated_url)
    tids = [int(tid) for tid in bodies]
    sizes = [len(body.encode()) for body in bodies.values()]
    return (
        Gateway(simulated_url, tids),
        Gateway(await _replay(group, bodies), tids),
        f"{min(sizes):,} to {max(sizes):,} bytes (median {statistics.median(sizes):,.0f})",
    )


async def _record(url: str) -> dict[str, str]:
    """Complete trades of a running simulator, as bodies of answers, by tid."""
    bodies = {}
    async with _client(Gateway(url, ()), in_flight=8) as client:
        end = _CLOCK.now().replace(microsecond=0)
        for page_no in range(1, TRADES // MAX_PAGE_SIZE + 1):
            page = await trades.SOLD.page(
                client,
                SESSION,
                end - timedelta(days=90),
                end,
                page_no=page_no,
                use_has_next=True,
                priority=Priority.LIVE,
            )
            for listed in page.rows:
                trade = await trades.fullinfo(client, SESSION, listed.tid, Priority.LIVE)
                answer = {"trade_fullinfo_get_response": {"trade": trade, "request_id": "recorded"}}
                bodies[str(listed.tid)] = platform_json.dumps(answer).decode()
    assert len(bodies) == TRADES, f"the simulator lists {len(bodies)} trades"
    return bodies


async def _simulate(group: ProcessGroup) -> str:
    """Start a simulator; returns its gateway's address."""
    ready = group.folder / "simulator.json"
    options = {"seed": SEED, "sellers": 1, "orders": TRADES, "ready-file": ready}
    argv = ["topsync", "simulate", *(f"--{name}={value}" for name, value in options.items())]
    addresses = orjson.loads(await _start(group, argv, ready, {"TOPSYNC_APP_SECRET": APP_SECRET}))
    return str(addresses["gateway_url"])


async def _replay(group: ProcessGroup, bodies: Mapping[str, str]) -> str:
    """Start the server that answers with recorded bodies; returns its address."""
    recorded, ready = group.folder / "recorded.json", group.folder / "replay.url"
    recorded.write_bytes(orjson.dumps(bodies))
    return await _start(group, ["benchmarks.replay", str(recorded), str(ready)], ready)


async def _start(
    group: ProcessGroup, module: Sequence[str], ready: Path, env: Mapping[str, str] | None = None
) -> str:
    """Run a module as a process; returns what it writes to its ready file."""
    process = await group.start(module[0], [sys.executable, "-m", *module], env=env)
    async with asyncio.timeout(READY_SECONDS):
        while (written := _read(ready)) is None:
            if process.returncode is not None:
                raise process.failure("ended while starting")
            await asyncio.sleep(0.05)
    return written


def _read(ready: Path) -> str | None:
    return ready.read_text() if ready.exists() else None
