"""The simulated platform under load: its own processes with a million orders, called over real HTTP."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import orjson

from benchmarks import load
from benchmarks.load import Check, Outcome, Target
from benchmarks.report import Report, Row
from topsync.platforms.taobao import catalogue
from topsync.platforms.taobao.gateway import requests
from topsync.platforms.taobao.gateway.requests import ApiRequest
from topsync.platforms.taobao.gateway.sign import SignMethod
from topsync.simulator.ids import OrderKey, tid_of

ORDERS: Final = 1_000_000
SELLERS: Final = 5
WORKERS: Final = 2
CONNECTIONS: Final = 64
DETAILS: Final = 40_000
PAGES: Final = 1_000
PAGE_SIZE: Final = 100
WARM_UP: Final = 2_000

START_SECONDS: Final = 60.0
_CHECKED_WHOLE: Final = 50
"""Every nth answer is parsed; in the others we only check that there is no error."""

_APP_KEY: Final = "99000001"
_APP_SECRET: Final = "simulator-secret-0001"
_SEED: Final = 20251111


@dataclass(frozen=True, slots=True)
class Platform:
    """A running simulator."""

    target: Target
    sessions: Sequence[str]
    process: int
    seconds_to_listening: float

    @property
    def megabytes(self) -> float:
        """Resident memory of all its processes, as Linux reports it."""
        return sum(_resident_kilobytes(process) for process in self._processes) / 1024

    @property
    def processor_seconds(self) -> float:
        """Used so far by all its processes, and by the system for them."""
        return sum(_processor_seconds(process) for process in self._processes)

    @property
    def _processes(self) -> list[int]:
        workers = Path(f"/proc/{self.process}/task/{self.process}/children").read_text().split()
        return [self.process, *map(int, workers)]


def _resident_kilobytes(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])


def _processor_seconds(process: int) -> float:
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


async def run() -> Report:
    async with _platform() as platform:
        after_start = platform.megabytes
        await _details(platform, WARM_UP, accept="identity")
        spent = platform.processor_seconds
        plain = await _details(platform, DETAILS, accept="identity")
        spent = platform.processor_seconds - spent
        packed = await _details(platform, DETAILS, accept="gzip")
        pages = await _pages(platform)
        after_calls = platform.megabytes
    return Report(
        "simulator",
        f"`topsync simulate --workers {WORKERS}` with {ORDERS:,} orders of {SELLERS} sellers; {CONNECTIONS} "
        f"connections, one signed call at a time on each, answers checked; {DETAILS:,} details of random "
        f"orders with all {len(catalogue.FULLINFO_FIELDS)} fields that topsync asks for; {PAGES:,} pages of "
        f"{PAGE_SIZE} from random half hours of modification.",
        (
            Row(
                what="from start of the process to listening",
                value=platform.seconds_to_listening,
                unit="s",
                at_most=5,
                digits=1,
            ),
            Row(what="resident memory when listening", value=after_start, unit="MB", at_most=600),
            Row(what="details, not compressed", value=plain.per_second, unit="/s", at_least=5000),
            Row(what="processor time of a detail, all processes", value=1e6 * spent / plain.calls, unit="µs"),
            Row(what="details in gzip, as topsync asks", value=packed.per_second, unit="/s"),
            Row(what="pages of increments in gzip", value=pages.per_second, unit="/s"),
            Row(what="resident memory after these calls", value=after_calls, unit="MB", at_most=600),
            Row(
                what="the load's own share of a core",
                value=100 * max(plain.own_share, packed.own_share),
                unit="%",
                at_most=50,
            ),
        ),
    )


@asynccontextmanager
async def _platform() -> AsyncIterator[Platform]:
    with tempfile.TemporaryDirectory(prefix="topsync-benchmark-") as folder:
        ready = Path(folder) / "ready.json"
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "topsync",
                "simulate",
                "--orders",
                str(ORDERS),
                "--sellers",
                str(SELLERS),
                "--workers",
                str(WORKERS),
            ),
            *("--app-key", _APP_KEY, "--ready-file", str(ready)),
            env={**os.environ, "TOPSYNC_APP_SECRET": _APP_SECRET},
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                while not ready.exists():
                    assert process.returncode is None, "the simulator has ended"
                    await asyncio.sleep(0.01)
            seconds = time.perf_counter() - began
            addresses = orjson.loads(ready.read_bytes())
            async with httpx.AsyncClient(trust_env=False) as http:
                sellers: list[dict[str, Any]] = (await http.get(f"{addresses['admin_url']}/sellers")).json()
            sessions = [seller["session"] for seller in sellers]
            yield Platform(Target.of(addresses["gateway_url"]), sessions, process.pid, seconds)
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()


async def _details(platform: Platform, count: int, *, accept: str) -> Outcome:
    """Details of random orders of all sellers."""
    chance = random.Random(_SEED)
    keys = [OrderKey(chance.randrange(SELLERS), chance.randrange(ORDERS // SELLERS)) for _ in range(count)]
    fields = ",".join(catalogue.FULLINFO_FIELDS)
    requests = [
        _request(
            platform,
            key.seller,
            ApiRequest("taobao.trade.fullinfo.get", {"tid": tid_of(key), "fields": fields}),
            accept,
        )
        for key in keys
    ]

    def is_that_order(position: int, answer: dict[str, Any]) -> bool:
        return bool(answer["trade_fullinfo_get_response"]["trade"]["tid"] == tid_of(keys[position]))

    return await load.send_all(platform.target, requests, _check(is_that_order), connections=CONNECTIONS)


async def _pages(platform: Platform) -> Outcome:
    """Pages of increments as topsync asks for them."""
    chance = random.Random(_SEED)
    now = datetime.now(UTC)
    requests = []
    for _ in range(PAGES):
        first = now - timedelta(minutes=chance.randrange(60, 60 * 24 * 30))
        asked = ApiRequest(
            "taobao.trades.sold.increment.get",
            {
                "fields": ",".join(catalogue.LIST_FIELDS),
                "type": ",".join(catalogue.ALL_TRADE_TYPES),
                "start_modified": first,
                "end_modified": first + timedelta(minutes=30),
                "page_size": PAGE_SIZE,
                "use_has_next": True,
            },
        )
        requests.append(_request(platform, chance.randrange(SELLERS), asked, "gzip"))

    def is_a_page(_: int, answer: dict[str, Any]) -> bool:
        return "has_next" in answer["trades_sold_increment_get_response"]

    return await load.send_all(platform.target, requests, _check(is_a_page), connections=CONNECTIONS)


def _check(is_right: Callable[[int, dict[str, Any]], bool]) -> Check:
    def check(position: int, body: bytes) -> None:
        assert b'"error_response"' not in body, body
        assert position % _CHECKED_WHOLE or is_right(position, orjson.loads(body)), body

    return check


def _request(platform: Platform, seller: int, asked: ApiRequest, accept: str) -> bytes:
    form = requests.form(
        asked,
        app_key=_APP_KEY,
        app_secret=_APP_SECRET,
        session=platform.sessions[seller],
        now=datetime.now(UTC),
        sign_method=SignMethod.HMAC_SHA256,
    )
    return platform.target.post(urlencode(form).encode(), accept=accept)
