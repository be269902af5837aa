"""What traces cost push and the enricher for each change, beside the same without them."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks import pipeline
from benchmarks.pipeline import Installation, Step
from benchmarks.report import Report, Row
from benchmarks.subscriber import subscribed
from topsync.local import run_folders
from topsync.local.ports import LOOPBACK

RATE: Final = 200
"""Changes a second, with which every way keeps up: under too many, batches grow and each costs less."""
ROUNDS: Final = 3
WARM_UP_SECONDS: Final = 6.0

OFF: Final = "without traces"
SOME: Final = "one trace in a hundred kept"
ALL: Final = "every trace kept"
SHARES: Final[Mapping[str, float | None]] = {OFF: None, SOME: 0.01, ALL: 1.0}

ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@dataclass(slots=True)
class Collector:
    """Takes spans, and looks at none."""

    url: str = ""
    taken_bytes: int = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(line.lower().split(b": ", 1) for line in head.splitlines()[1:] if line)
                self.taken_bytes += len(await reader.readexactly(int(fields[b"content-length"])))
                writer.write(ANSWER)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the process has ended
        finally:
            writer.close()


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector that runs meanwhile."""
    collector = Collector()
    server = await asyncio.start_server(collector.take, LOOPBACK, 0)
    collector.url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}/v1/traces"
    async with server:
        yield collector


async def run() -> Report:
    """Measure each way in turn."""
    found: dict[str, list[Step]] = {way: [] for way in SHARES}
    async with collecting() as collector, pipeline.running(run_folders.create()) as installation:
        for _ in range(ROUNDS):
            for way, share in SHARES.items():
                before = collector.taken_bytes
                found[way].append(await _measure(installation, collector.url, share))
                assert (collector.taken_bytes > before) is (share is not None), "the collector got nothing"
    return Report("traces", SETUP, list(_rows(found)))


async def _measure(installation: Installation, url: str, share: float | None) -> Step:
    settings = {} if share is None else {"TOPSYNC_TRACES_URL": url, "TOPSYNC_TRACES_SHARE": str(share)}
    async with (
        subscribed(installation.system, pipeline.PARTITIONS) as subscriber,
        pipeline.contestant(installation, pipeline.TOPSYNC, settings) as processes,
    ):
        await installation.set_rate(RATE)
        await pipeline.first_order(installation.system, subscriber)
        await installation.at_rate(RATE, WARM_UP_SECONDS)
        return await pipeline.step(installation, subscriber, processes, RATE)


SETUP: Final = (
    f"`topsync push` and one `topsync enrich` at {RATE} changes a second, each of which is a message, a "
    'detail call, a row and a record; platform, servers and figures as in "What a change costs". The '
    "collector is the benchmark itself, on the same cores: it answers at once and reads nothing of it. "
    f"{ROUNDS} rounds in turn; medians, of the ratios too."
)


def _rows(found: Mapping[str, Sequence[Step]]) -> list[Row]:
    rows = []
    for way, steps in found.items():
        rows += [
            _milliseconds(f"{way}: processor time of push for each", [each.push_seconds for each in steps]),
            _milliseconds(f"{way}: of the enricher", [each.work_seconds for each in steps]),
            _milliseconds(f"{way}: median of the wait", [each.p50_seconds for each in steps]),
        ]
        if way != OFF:
            ratios = [
                each.work_seconds / off.work_seconds for each, off in zip(steps, found[OFF], strict=True)
            ]
            rows.append(
                Row(what=f"{way}: the enricher / {OFF}", value=statistics.median(ratios), unit="", digits=2)
            )
    return rows


def _milliseconds(what: str, values: Sequence[float]) -> Row:
    return Row(what=what, value=1000 * statistics.median(values), unit="ms", digits=2)
