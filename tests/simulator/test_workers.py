"""A platform with workers answers like a single process, whichever process a call reaches."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
import orjson
import pytest

from tests.simulator.platform_client import (
    ALL_TYPES,
    BOUND_SECONDS,
    FULL_FIELDS,
    Client,
    all_tids,
    frozen_clock,
    small,
)
from tests.simulator.test_exports import done, download, result
from tests.simulator.test_http import Peer, connected
from tests.support.eventually import eventually
from topsync.simulator.server import Simulator

WORKERS = 2
FULLINFO = "taobao.trade.fullinfo.get"
PERMIT = "taobao.tmc.user.permit"


@asynccontextmanager
async def platform(**changes: Any) -> AsyncIterator[Client]:
    async with Simulator(small(workers=WORKERS, **changes)) as simulator, Client(simulator) as client:
        yield client


def port_of(client: Client) -> int:
    port = urlsplit(client.simulator.addresses.gateway_url).port
    assert port is not None
    return port


def request(client: Client, method: str, *headers: str, **arguments: str) -> bytes:
    body = urlencode(client.signed(method, **arguments)).encode()
    lines = (
        "POST /router/rest HTTP/1.1",
        "Host: here",
        "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length: {len(body)}",
        *headers,
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def process_of(answer: str) -> int:
    """Which process has answered: 0 is the main process, the others are workers."""
    (fields,) = orjson.loads(answer).values()
    return int(fields["request_id"][3:], 16) >> 40


def without_id(answer: str) -> str:
    (fields,) = orjson.loads(answer).values()
    return answer.replace(fields["request_id"], "")


async def ask(peer: Peer, client: Client, method: str, *headers: str, **arguments: str) -> str:
    await peer.send(request(client, method, *headers, **arguments))
    status, answer = await peer.answer()
    assert status == 200
    return answer


@asynccontextmanager
async def answered_by_the_platform(client: Client) -> AsyncIterator[None]:
    """While a fault is on, the main process answers; this fault does not change these calls."""
    await client.admin("POST", "/faults/bad_gateway", {"api": "taobao.time.get"})
    yield
    await client.admin("DELETE", "/faults")


def exists(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_workers_answer_byte_for_byte_what_one_process_answers() -> None:
    # Some changes reach the lists at once, others long after the test.
    async with platform(visibility_delay_seconds=100_000) as client:
        world, chance = client.simulator.world, random.Random(1)
        past = list(map(str, all_tids(world)))
        changed = chance.sample(past, 20)
        for tid in changed:
            await client.order("memo", tid=int(tid))
        await client.order("create", count=10)
        await client.order("advance", count=10)
        created = list(map(str, all_tids(world)))[-10:]
        calls = [
            (FULLINFO, {"tid": tid, "fields": FULL_FIELDS})
            for tid in (*changed, *created, *chance.sample(past, 20))
        ]
        window = {"start_created": "2025-11-15 00:00:00", "end_created": "2025-11-20 15:31:00"}
        lists = {"fields": FULL_FIELDS, "type": ALL_TYPES, **window}
        calls += [("taobao.trades.sold.get", {**lists, "page_no": page}) for page in ("1", "2")]
        async with connected(port_of(client)) as first, connected(port_of(client)) as other:
            async with answered_by_the_platform(client):
                expected = [await ask(first, client, method, **arguments) for method, arguments in calls]
            assert set(map(process_of, expected)) == {0}
            for (method, arguments), its_own in zip(calls, expected, strict=True):
                answers = [await ask(peer, client, method, **arguments) for peer in (first, other)]
                assert set(map(process_of, answers)) == {1, 2}
                assert set(map(without_id, answers)) == {without_id(its_own)}


async def test_every_worker_knows_a_change_when_its_call_is_answered() -> None:
    async with (
        platform() as client,
        connected(port_of(client)) as first,
        connected(port_of(client)) as other,
    ):
        (tid,) = [next(all_tids(client.simulator.world))]
        for memos in range(1, 30):
            await client.order("memo", tid=tid, message=False)
            processes = set()
            for peer in (first, other):
                answer = await ask(peer, client, FULLINFO, tid=str(tid), fields="seller_memo")
                assert f'"备注{memos}"' in answer
                processes.add(process_of(answer))
            assert processes == {1, 2}


async def test_every_worker_follows_the_clock() -> None:
    async with (
        platform() as client,
        connected(port_of(client)) as first,
        connected(port_of(client)) as other,
    ):
        client.simulator.clock.advance(3 * 86400)
        for peer in (first, other):
            answer = await ask(peer, client, "taobao.time.get")
            assert process_of(answer) > 0
            assert "2025-11-23 15:3" in answer


async def test_a_session_that_has_ended_is_refused_and_its_successor_is_served_by_workers() -> None:
    async with platform() as client, connected(port_of(client)) as peer:
        simulator, tid = client.simulator, str(next(all_tids(client.simulator.world)))
        assert process_of(await ask(peer, client, FULLINFO, tid=tid, fields="tid")) > 0
        simulator.authorisations.expire(client.seller)
        answer = await ask(peer, client, FULLINFO, tid=tid, fields="tid")
        assert orjson.loads(answer)["error_response"]["sub_code"] == "session-expired"
        simulator.authorisations.refreshable = True
        code = simulator.authorisations.new_code(client.seller)
        token = (await client.token("authorization_code", code=code))["access_token"]
        async with connected(port_of(client)) as fresh:
            refreshed = await ask(fresh, client, FULLINFO, tid=tid, fields="tid", session=token)
        assert process_of(refreshed) > 0


async def test_the_ledger_counts_each_call_before_it_is_answered() -> None:
    async with platform() as client:
        tids = [str(tid) for tid in all_tids(client.simulator.world)]

        async def call(count: int) -> None:
            async with connected(port_of(client)) as peer:
                for tid in tids[:count]:
                    await ask(peer, client, FULLINFO, tid=tid, fields="tid")

        expected = 0
        for count in (1, 7, 25):
            await asyncio.gather(*(call(count) for _ in range(4)))
            expected += 4 * count
            counts = (await client.admin("GET", "/ledger"))["gateway"]
            counted = counts["apis"][FULLINFO]
            assert counted["total"] == counts["all"]["total"] == expected
            assert sum(counted["per_second"].values()) == counted["total"]
            assert 0 < counted["most_per_second"] <= counted["total"]
            await client.refused(FULLINFO, tid="1", fields="tid")
            expected += 1


async def test_workers_answer_after_answer_seconds_and_learn_its_changes() -> None:
    async with platform(answer_seconds=0.2) as client:
        tid = str(next(all_tids(client.simulator.world)))
        for seconds, method in ((0.2, FULLINFO), (0.2, PERMIT), (0.3, FULLINFO)):
            await client.admin("POST", "/answers", {"seconds": seconds})
            async with connected(port_of(client)) as peer:
                began = time.monotonic()
                answer = await ask(peer, client, method, tid=tid, fields="tid")
                assert time.monotonic() - began >= seconds
            assert bool(process_of(answer)) is (method == FULLINFO), "a worker forwards methods with effects"


async def test_faults_strike_as_often_as_in_one_process() -> None:
    async with platform() as client:
        tid = str(next(all_tids(client.simulator.world)))
        async with connected(port_of(client)) as first, connected(port_of(client)) as other:
            for peer in (first, other):
                assert process_of(await ask(peer, client, FULLINFO, tid=tid, fields="tid")) > 0
            await client.admin("POST", "/faults/bad_gateway", {"times": 3, "spare": 2})
            statuses = []
            for _ in range(5):
                for peer in (first, other):
                    await peer.send(request(client, FULLINFO, tid=tid, fields="tid"))
                    statuses.append((await peer.answer())[0])
            assert statuses == [200, 200, 502, 502, 502, 200, 200, 200, 200, 200]
            await client.admin("DELETE", "/faults")

            async def answered_by_workers() -> bool:
                answers = [
                    await ask(peer, client, FULLINFO, tid=tid, fields="tid") for peer in (first, other)
                ]
                return 0 not in map(process_of, answers)

            await eventually(answered_by_workers)


async def test_a_forwarded_request_loses_nothing_on_its_way() -> None:
    async with platform() as client:
        tid = str(next(all_tids(client.simulator.world)))
        detail = request(client, FULLINFO, tid=tid, fields="tid")
        permit = request(client, PERMIT)
        async with connected(port_of(client)) as peer:
            await peer.send(detail + permit + detail[:100])  # pipelined, the last in two parts
            await peer.send(detail[100:])
            for part in ("trade_fullinfo_get_response", "tmc_user_permit_response", tid):
                status, answer = await peer.answer()
                assert (status, part in answer) == (200, True)
        async with connected(port_of(client)) as peer:
            for position in range(0, len(permit), 50):  # forwarded when it is complete
                await peer.send(permit[position : position + 50])
            assert "tmc_user_permit_response" in (await peer.answer())[1]
        async with connected(port_of(client)) as peer:
            await peer.send(b"no http at all\r\n\r\n")
            assert (await peer.rest()).startswith(b"HTTP/1.0 400")
        async with connected(port_of(client)) as peer:
            await peer.send(permit.replace(b"Host: here", b"Host: here\r\nExpect: 100-continue"))
            assert (await peer.head()).startswith("HTTP/1.1 100")
        async with connected(port_of(client)) as peer:
            await peer.send(b"GET /nowhere HTTP/1.1\r\nHost: here\r\n\r\n")
            assert (await peer.answer())[0] == 404


@pytest.mark.parametrize("verb", ["GET", "POST"])
async def test_a_fault_that_breaks_an_answer_off_strikes_each_call_once(verb: str) -> None:
    async with platform() as client:
        query = urlencode(client.signed("taobao.time.get"))
        path = urlsplit(client.simulator.addresses.gateway_url).path
        await client.admin("POST", "/faults/reset", {"times": 2})
        for _ in range(2):
            async with connected(port_of(client)) as peer:
                await peer.send(f"{verb} {path}?{query} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
                with pytest.raises(ConnectionResetError):
                    await peer.rest()
        assert (await client.call("taobao.time.get"))["time"]
        counts = (await client.admin("GET", "/ledger"))["gateway"]["apis"]["taobao.time.get"]
        assert counts["total"] == 3


async def test_a_download_comes_through_workers_whole_or_cut() -> None:
    async with platform() as client:
        await client.admin("POST", "/faults/cut_download", {"times": 1, "at_per_cent": 50})
        task = await done(client, fields="tid,orders")
        with pytest.raises(aiohttp.ClientPayloadError):
            await download(client, task["download_url"])
        again = await result(client, task["task_id"])
        _, content = await download(client, again["download_url"])
        assert hashlib.md5(content).hexdigest() == task["check_code"]


async def test_a_worker_that_ends_is_noticed() -> None:
    simulator = Simulator(small(workers=WORKERS))
    await simulator.start()
    async with Client(simulator) as client:
        assert simulator.workers is not None
        os.kill(simulator.workers.pids[0], signal.SIGKILL)

        async def is_unhealthy() -> bool:
            async with client.http.get(f"{simulator.addresses.admin_url}/healthz") as response:
                return response.status == 503

        await eventually(is_unhealthy)
    with pytest.raises(BaseExceptionGroup) as raised:
        await simulator.stop()
    assert "has ended with status -9" in str(raised.value.exceptions[0].exceptions[0])


async def test_stopping_leaves_no_process_and_starting_again_works() -> None:
    simulator = Simulator(small(workers=WORKERS))
    for _ in range(2):
        await simulator.start()
        assert simulator.workers is not None
        pids = simulator.workers.pids
        assert len(pids) == WORKERS
        assert all(map(exists, pids))
        await simulator.stop()
        assert not any(map(exists, pids))


async def test_a_platform_that_is_killed_leaves_no_worker() -> None:
    program = (
        "import asyncio\n"
        "from topsync.simulator.server import Simulator\n"
        "from topsync.simulator.settings import SimulatorSettings\n"
        "async def main():\n"
        "    async with Simulator(SimulatorSettings(workers=2)) as simulator:\n"
        "        print(*simulator.workers.pids, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(BOUND_SECONDS):
        pids = [int(pid) for pid in (await process.stdout.readline()).split()]
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert len(pids) == 2

    async def are_gone() -> bool:
        return not any(map(exists, pids))

    await eventually(are_gone)


def test_a_clock_that_other_processes_do_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="clock"):
        Simulator(small(workers=1), frozen_clock())
