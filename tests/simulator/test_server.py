"""The whole process: memory, start and stop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import aiohttp

from schemas import platform_time
from tests.simulator.platform_client import ALL_TYPES, Client, frozen_clock, make_world, small, tids
from topsync.simulator.channel.queue import OutboundMessage
from topsync.simulator.channel.websocket import Message, Opcode
from topsync.simulator.faults.base import Visit
from topsync.simulator.server import Simulator


async def test_a_million_orders_cost_neither_start_time_nor_memory() -> None:
    program = (
        "import asyncio, resource, time\n"
        "from topsync.simulator.server import Simulator\n"
        "from topsync.simulator.settings import SimulatorSettings\n"
        "async def main():\n"
        "    began = time.perf_counter()\n"
        "    async with Simulator(SimulatorSettings(orders=1_000_000)):\n"
        "        print(time.perf_counter() - began)\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
        "asyncio.run(main())\n"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    seconds, megabytes = map(float, done.stdout.split())
    assert seconds < 5
    assert megabytes < 600


async def test_a_page_of_half_an_hour_is_fast_among_a_million_orders() -> None:
    settings = small(orders=1_000_000, sellers=1, history_days=89)
    async with Simulator(settings, frozen_clock()) as simulator, Client(simulator) as client:
        began = time.perf_counter()
        body = await client.increment("2025-11-20 14:30:00", "2025-11-20 15:00:00")
        elapsed = time.perf_counter() - began
        assert body["total_results"] > 300
        assert len(tids(body)) == 100
        assert elapsed < 1  # some 20 ms on an idle machine
        everything = await client.call("taobao.trades.sold.get", fields="tid", type=ALL_TYPES, page_no="5000")
        assert everything["total_results"] == 1_000_000


async def test_stopping_twice_and_starting_again_is_harmless() -> None:
    simulator = Simulator(small(), frozen_clock())
    await simulator.start()
    await simulator.stop()
    await simulator.stop()
    addresses = await simulator.start()
    async with aiohttp.ClientSession() as http, http.get(f"{addresses.admin_url}/healthz") as response:
        assert response.status == 200
    await simulator.stop()


def test_no_session_or_secret_shows_in_a_repr() -> None:
    simulator_settings = small()
    seller = make_world().books[0].seller
    assert seller.session not in repr(seller)
    assert simulator_settings.app_secret not in repr(simulator_settings)
    assert seller.session not in repr(Visit("an api", seller, {"session": seller.session}))


def test_no_content_of_a_message_shows_in_a_repr() -> None:
    """It holds a buyer's data."""
    message = OutboundMessage(1, "nick", "topic", '{"buyer_nick": "somebody"}', frozen_clock().now(), "1")
    assert "somebody" not in repr(message)
    assert repr(Message(Opcode.BINARY, b"somebody")) == "Message(BINARY, 8 bytes)"


def test_the_clock_can_start_anywhere() -> None:
    start = platform_time.parse("2024-02-29 23:59:59")
    clock = frozen_clock(start)
    clock.advance(1)
    assert platform_time.format(clock.now()) == "2024-03-01 00:00:00"
