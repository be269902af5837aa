"""P4: a bulk start whose disk is full says so, leaves nothing behind, and goes on when there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import systems
from topsync.local.system import Scale

ROOM, MORE_ROOM = "64k", "64m"
"""Of the disk: less than the file of the orders, and more."""


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def grow(disk: Path) -> None:
    subprocess.run(["mount", "-o", f"remount,size={MORE_ROOM}", disk], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, which is too small."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "topsync", folder], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a disk can be mounted by few users, and not by this one: {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.at_length
async def test_a_full_disk_is_named_and_with_room_the_same_file_is_loaded(
    kafka_bootstrap_servers: str, database_url: str, topic_prefix: str, disk: Path
) -> None:
    async with systems.system_on(
        kafka_bootstrap_servers, database_url, topic_prefix, Scale(sellers=1, orders=1500)
    ) as system:
        system.environment["TOPSYNC_WORK_DIR"] = str(disk)
        await system.start_services()
        await system.start("witness")

        status, said = await system.try_run("bootstrap")
        assert status == 1
        *_, line = said.splitlines()
        assert line.startswith("topsync bootstrap: ")
        assert f"{disk}/exports (No space left on device)" in line
        assert "see to TOPSYNC_WORK_DIR, then run it again; it goes on where it stood" in line
        assert files(disk) == [], "what was begun has gone"

        grow(disk)
        await system.run("bootstrap")
        asked = await systems.calls(system, "taobao.topats.trades.sold.get")
        assert asked == 1, "the platform still has the file"
        system.require_running()
        await systems.require_clean_audit(system)
