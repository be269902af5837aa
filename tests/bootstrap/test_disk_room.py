"""While a bulk start runs, the room on the disk that takes the exports is shown."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import REGISTRY

from bootstrap import disk_room
from tests.support.eventually import eventually
from topsync.base import metrics

FREE, ALL = "topsync_bulk_start_disk_free_bytes", "topsync_bulk_start_disk_bytes"


async def test_the_room_is_shown_also_before_the_folder_exists(tmp_path: Path) -> None:
    async def is_shown() -> bool:
        return REGISTRY.get_sample_value(FREE) is not None

    try:
        async with disk_room.watched(tmp_path / "not" / "yet"):
            await eventually(is_shown)
        free, all_ = REGISTRY.get_sample_value(FREE), REGISTRY.get_sample_value(ALL)
        assert free is not None
        assert all_ is not None
        assert 0 < free < all_
    finally:
        metrics.BULK_DISK_FREE_BYTES.forget()
        metrics.BULK_DISK_BYTES.forget()
