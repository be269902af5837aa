"""Where a process spends its time: `python -m benchmarks profile WHAT [--out FOLDER]`.

It runs the fitting load, samples the process with py-spy, and prints the share of each function: of its own,
with the native code that it calls (*self*), and with all that it calls (*total*). Only samples in which a
thread holds the interpreter's lock count. Where others push the process off its core, it holds the lock as
well, most often in the middle of writing to a socket: so look at a profile from a machine that is quiet. With
`--out`, the stacks go to files that speedscope and flamegraph.pl open.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks import pipeline, push, slow_day
from benchmarks.bulk_system import bulk_system
from topsync.local import paths, run_folders
from topsync.local.processes import ManagedProcess, ProcessGroup

RATE: Final = 400
"""Changes per second for `enrich`."""

SECONDS: Final = 20.0
BULK_ORDERS: Final = 30_000
PUSH_MESSAGES: Final = 300_000

SAMPLES_PER_SECOND: Final = 200
FUNCTIONS: Final = 30
ROOMS: Final = 25

OUTER_SHARE: Final = 0.95
"""A function in so many samples only starts the others, and is not in the list by total."""

_FRAME: Final = re.compile(r"(?P<name>.*) \((?P<file>[^()]*?)(?::(?P<line>\d+))?\)")
_LIBRARY: Final = re.compile(r"(?:^|/)(?:site-packages|dist-packages)/(?P<library>[^/]+)")
_STANDARD: Final = re.compile(r"/lib/python3\.\d+/(?P<module>.*)$|^<frozen (?P<frozen>.*)>$")


@dataclass(frozen=True, slots=True)
class Frame:
    """A function of a stack."""

    function: str
    room: str
    """Our module, or the library."""


@dataclass(slots=True)
class Shares:
    """Samples by function and by room."""

    samples: int = 0
    self_of: Counter[str] = field(default_factory=Counter)
    total_of: Counter[str] = field(default_factory=Counter)
    of_room: Counter[str] = field(default_factory=Counter)
    total_of_room: Counter[str] = field(default_factory=Counter)

    def add(self, stack: Sequence[Frame], count: int) -> None:
        """Add a stack, outermost first."""
        self.samples += count
        self.self_of[stack[-1].function] += count
        for function in {frame.function for frame in stack}:
            self.total_of[function] += count
        self.of_room[stack[-1].room] += count
        for room in {frame.room for frame in stack}:
            self.total_of_room[room] += count


def main(arguments: Sequence[str]) -> None:
    """Profile what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks profile", description=__doc__)
    parser.add_argument("what", choices=("enrich", "push", "bulk", "slow_day", "audit"))
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="how long `enrich` and `slow_day` are sampled"
    )
    parser.add_argument("--rate", type=float, default=RATE, help="changes per second for `enrich`")
    parser.add_argument(
        "--orders", type=int, default=BULK_ORDERS, help="orders that `bulk` loads and `audit` compares"
    )
    parser.add_argument("--out", type=Path, help="a folder for the stacks")
    given = parser.parse_args(arguments)
    uvloop.run(_run(given))


async def _run(given: argparse.Namespace) -> None:
    folder = run_folders.create()
    match given.what:
        case "enrich":
            found = await _enrich(folder, given.rate, given.seconds)
        case "push":
            found = await _push(folder)
        case "slow_day":
            found = await _slow_day(given.seconds)
        case "audit":
            found = await _audit(given.orders)
        case _:
            found = await _bulk(given.orders)
    for name, stacks in found.items():
        show(name, shares(stacks.read_text()))
        if given.out is not None:
            given.out.mkdir(parents=True, exist_ok=True)
            kept = given.out / f"{name}.collapsed.txt"
            kept.write_text(stacks.read_text())
            print(f"stacks: {kept}")


async def _enrich(folder: Path, rate: float, seconds: float) -> Mapping[str, Path]:
    async with (
        pipeline.running(folder) as installation,
        pipeline.contestant(installation, pipeline.TOPSYNC) as (_, enrich),
    ):
        await installation.at_rate(rate, pipeline.WARM_UP_SECONDS)
        async with sampled(installation.system.group, "enrich", enrich.pid) as stacks:
            await installation.at_rate(rate, seconds)
    return {"enrich": stacks}


async def _push(folder: Path) -> Mapping[str, Path]:
    """This process, in which push runs with its own load."""
    async with (
        ProcessGroup(folder) as group,
        push.loaded(group, PUSH_MESSAGES) as load,
        sampled(group, "push", os.getpid()) as stacks,
    ):
        await load()
    return {"push": stacks}


async def _bulk(orders: int) -> Mapping[str, Path]:
    async with bulk_system(orders) as bulk:
        await bulk.start()
        group, enrich = bulk.system.group, bulk.system.processes["enrich"]
        found: dict[str, Path] = {}
        samplers: list[ManagedProcess] = []

        async def sample(process: ManagedProcess) -> None:
            for name, pid in (("enrich", enrich.pid), ("bootstrap", process.pid)):
                found[name] = group.folder / f"{name}.stacks"
                samplers.append(await _sampler(group, name, pid, found[name]))

        loading = asyncio.create_task(bulk.load(began=sample))
        await bulk.until_loaded(loading)
        for sampler in samplers:
            await sampler.stop()
        await loading
    return found


async def _slow_day(seconds: float) -> Mapping[str, Path]:
    async with slow_day.day() as system:
        await system.admin("POST", "/activity", {"rate": slow_day.CHANGES_PER_SECOND})
        await asyncio.sleep(slow_day.WARM_UP_SECONDS)
        async with sampled(system.group, "enrich", system.processes["enrich"].pid) as stacks:
            await asyncio.sleep(seconds)
    return {"enrich": stacks}


async def _audit(orders: int) -> Mapping[str, Path]:
    async with bulk_system(orders) as bulk:
        await bulk.start()
        await bulk.load()
        group = bulk.system.group
        process = await group.start("audit", bulk.system.command("audit"), env=bulk.system.environment)
        async with sampled(group, "audit", process.pid) as stacks:
            await process.wait()
    return {"audit": stacks}


@asynccontextmanager
async def sampled(group: ProcessGroup, name: str, process: int) -> AsyncIterator[Path]:
    """Sample a process meanwhile; afterwards the file has its stacks."""
    stacks = group.folder / f"{name}.stacks"
    sampler = await _sampler(group, name, process, stacks)
    try:
        yield stacks
    finally:
        await sampler.stop()
    if not stacks.exists():
        raise sampler.failure("wrote nothing")


async def _sampler(group: ProcessGroup, name: str, process: int, stacks: Path) -> ManagedProcess:
    spy = Path(sys.executable).with_name("py-spy")
    options = f"record --gil --function --full-filenames --format raw --rate {SAMPLES_PER_SECOND}".split()
    return await group.start(
        f"py-spy-{name}",
        [spy, *options, "--pid", str(process), "--output", stacks],
        stop_signal=signal.SIGINT,
    )


def shares(stacks: str) -> Shares:
    """Count the stacks that py-spy wrote, a line each: frames with semicolons between, and a number."""
    found = Shares()
    for line in stacks.splitlines():
        frames, _, count = line.rpartition(" ")
        if stack := list(_frames(frames)):
            found.add(stack, int(count))
    return found


def _frames(line: str) -> Iterator[Frame]:
    for text in filter(None, line.split(";")):
        match = _FRAME.fullmatch(text)
        name, file = (match["name"], match["file"]) if match else (text, "")
        room = _room(file)
        yield Frame(f"{name} ({room}:{match['line']})" if match else name, room)


def _room(file: str) -> str:
    """Our module, the library, or Python's own."""
    if library := _LIBRARY.search(file):
        return library["library"].partition(".")[0]
    path = Path(file)
    if path.is_relative_to(paths.CHECKOUT):
        return ".".join(path.relative_to(paths.CHECKOUT).with_suffix("").parts)
    if standard := _STANDARD.search(file):
        module = standard["module"] or standard["frozen"] or ""
        return "Python's " + module.partition("/")[0].removesuffix(".py")
    return path.stem if path.is_absolute() else path.parts[0]


def show(name: str, found: Shares) -> None:
    """Print the tables of a process."""
    running = f"{name}: {found.samples} samples in which it runs, {SAMPLES_PER_SECOND} looks a second"
    inner = Counter(
        {key: count for key, count in found.total_of.items() if count < OUTER_SHARE * found.samples}
    )
    for heading, counted, count in (
        ("function, by self", found.self_of, FUNCTIONS),
        ("function, by total", inner, FUNCTIONS),
        ("module or library, by self", found.of_room, ROOMS),
    ):
        own, total = found.self_of, found.total_of
        if counted is found.of_room:
            own, total = found.of_room, found.total_of_room
        table = Table(title=running, title_justify="left")
        table.add_column(heading, overflow="fold")
        for column in ("self", "total"):
            table.add_column(column, justify="right")
        for key, _ in counted.most_common(count):
            table.add_row(key, _percent(own[key], found.samples), _percent(total[key], found.samples))
        Console(width=110).print(table)


def _percent(count: int, samples: int) -> str:
    return f"{100 * count / samples:.1f} %"
