"""P4: a bulk start whose disk is full says so, leaves nothing behind, and goes on when there is room."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import pytest

from tests.support import systems
from tests.support.eventually import eventually
from tests.support.scenarios import load, staged
from topsync.local.system import Scale, System
from topsync.simulator.settings import ExportSettings, SimulatorSettings

ROOM, MORE_ROOM = "64k", "64m"
"""Of the disk: less than the file of the orders, and more."""

DAYS = 40
RATE = 10
LATE_FILES, LATE_SECONDS = 2, 40
"""So many files of the second seller come so late: the first seller is live before."""

PLATFORM: Final = SimulatorSettings(
    seed=16,
    sellers=2,
    orders=1200,
    history_days=DAYS - 1,
    visibility_delay_seconds=1,
    exports=ExportSettings(schedule_seconds=1, run_seconds=1, office_hours=False),
)
SETTINGS: Final = {"TOPSYNC_EXPORT_DAYS": str(DAYS), "TOPSYNC_SLICE_ORDERS": "150"}

EXPORT_APIS: Final = ("taobao.topats.trades.sold.get", "taobao.topats.refunds.receive.get")


MOUNTING: Final = """
mount -t tmpfs -o size={room} topsync '{folder}' && echo mounted && read _
mount -o remount,size={more} topsync '{folder}' && echo grown && read _
"""


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of its own, in a name space of its own: nobody needs to be root for it."""

    folder: Path
    commands: IO[str]
    answers: IO[str]

    @property
    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def grow(self) -> None:
        print(file=self.commands, flush=True)
        assert self.answers.readline().strip() == "grown"

    def fill(self) -> Path:
        """Fill it to the last byte with a file, as somebody else does."""
        filler = self.folder / "filler"
        with filler.open("wb") as file:
            file.write(bytes(shutil.disk_usage(self.folder).free))
        assert shutil.disk_usage(self.folder).free == 0
        return filler


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of its own, which is too small."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = MOUNTING.format(folder=folder, room=ROOM, more=MORE_ROOM)
    with subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounting],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        said = holder.stdout.readline().strip()
        if said != "mounted":
            pytest.skip(f"this user may have no name spaces, and so no disk of its own: {said}")
        yield Disk(Path(f"/proc/{holder.pid}/root{folder}"), holder.stdin, holder.stdout)
        holder.stdin.close()


@pytest.mark.at_length
async def test_a_full_disk_is_named_and_with_room_the_same_file_is_loaded(
    kafka_bootstrap_servers: str, database_url: str, topic_prefix: str, disk: Disk
) -> None:
    async with systems.system_on(
        kafka_bootstrap_servers, database_url, topic_prefix, Scale(sellers=1, orders=1500)
    ) as system:
        system.environment["TOPSYNC_WORK_DIR"] = str(disk.folder)
        await system.start_services()
        await system.start("witness")

        status, said = await system.try_run("bootstrap")
        assert status == 1
        *_, line = said.splitlines()
        assert line.startswith("topsync bootstrap: ")
        assert f"{disk.folder}/exports (No space left on device)" in line
        assert "see to TOPSYNC_WORK_DIR, then run it again; it goes on where it stood" in line
        assert disk.files == [], "what was begun has gone"

        disk.grow()
        await system.run("bootstrap")
        asked = await systems.calls(system, "taobao.topats.trades.sold.get")
        assert asked == 1, "the platform still has the file"
        system.require_running()
        await systems.require_clean_audit(system)


@pytest.mark.at_length
async def test_a_disk_that_fills_up_stops_only_what_needs_it_and_with_room_the_same_command_goes_on(
    kafka_bootstrap_servers: str, database_server_url: str, disk: Disk
) -> None:
    """Two sellers of several slices each, while orders change: the first is live when the disk is full."""
    disk.grow()
    settings = {**SETTINGS, "TOPSYNC_WORK_DIR": str(disk.folder)}
    async with staged(PLATFORM, kafka_bootstrap_servers, database_server_url, settings) as stage:
        system = stage.system
        first, second = (seller.user_id for seller in stage.platform.sellers)
        late = load("late_export", times=LATE_FILES, extra_seconds=LATE_SECONDS, of="orders")
        stage.play("late_export", late, seller_id=second)
        stage.live(RATE)

        job = await system.start("bootstrap")
        await eventually(lambda: are_live(system, [first]))
        filler = disk.fill()
        async with asyncio.timeout(2 * LATE_SECONDS):
            assert await job.wait() == 1
        del system.processes["bootstrap"]

        (line,) = [line for line in job.log_tail(1000).splitlines() if line.startswith("topsync bootstrap: ")]
        assert line.count(f"{disk.folder}/exports (No space left on device)") == 1, "one reason, said once"
        assert "see to TOPSYNC_WORK_DIR, then run it again; it goes on where it stood" in line
        assert "Traceback" not in job.log_tail(1000)
        assert disk.files == [filler], "what was begun has gone"
        assert await are_live(system, [first])
        assert not await are_live(system, [second])

        asked = [await systems.calls(system, api) for api in EXPORT_APIS]
        filler.unlink()
        await system.run("bootstrap")
        assert [await systems.calls(system, api) for api in EXPORT_APIS] == asked, (
            "the platform has the files"
        )
        for seller in (first, second):
            await systems.require_right_certificate(system, seller)
        assert disk.files == []
        system.require_running()
        await systems.require_clean_audit(system)


async def are_live(system: System, sellers: list[int]) -> bool:
    query = "select bool_and(state = 'live') from sellers where seller_id = any($1)"
    return bool(await systems.value(system, query, sellers))
