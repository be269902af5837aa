"""A Prometheus for the demo, where it is on PATH: a child of the demo, with its data in the demo's folder."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import orjson

from topsync.local.ports import LOOPBACK, free_port
from topsync.local.processes import ProcessGroup
from topsync.verify import admin_port

PROGRAM: Final = "prometheus"
READY_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.1
ANSWER_SECONDS: Final = 2.0
RETENTION: Final = "1d"
"""How long it keeps what it read, should the demo run for long."""


@dataclass(frozen=True, slots=True)
class DemoPrometheus:
    """A Prometheus that runs."""

    url: str
    folder: Path

    def watch(self, addresses: Mapping[str, str]) -> None:
        """Let it read these processes: addresses of `/metrics` by name. It notices within seconds."""
        _write(self.folder / "targets.json", targets(addresses))


def configuration(folder: Path) -> dict[str, object]:
    """What Prometheus is to read, once a second: the file of targets, which it looks into again and again."""
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [
            {
                "job_name": "topsync",
                "file_sd_configs": [{"files": [str(folder / "targets.json")], "refresh_interval": "2s"}],
            }
        ],
    }


def targets(addresses: Mapping[str, str]) -> list[dict[str, object]]:
    """The processes as Prometheus wants them; `instance` is the process's name, as on the page."""
    return [
        {"targets": [urlsplit(url).netloc], "labels": {"instance": name}} for name, url in addresses.items()
    ]


async def start(group: ProcessGroup) -> DemoPrometheus | str:
    """Start it; a text says why there is none. The demo does without it."""
    if (program := shutil.which(PROGRAM)) is None:
        return f"`{PROGRAM}` is not on PATH"
    folder = group.folder / PROGRAM
    folder.mkdir()
    port = free_port()
    made = DemoPrometheus(f"http://{LOOPBACK}:{port}", folder)
    _write(folder / "prometheus.json", configuration(folder))  # JSON is YAML as well
    made.watch({})
    process = await group.start(
        PROGRAM,
        [
            program,
            f"--config.file={folder / 'prometheus.json'}",
            f"--web.listen-address={LOOPBACK}:{port}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--storage.tsdb.retention.time={RETENTION}",
            "--log.level=warn",
        ],
        cwd=folder,
    )
    deadline = time.monotonic() + READY_SECONDS
    async with admin_port.client(made.url, timeout_seconds=ANSWER_SECONDS) as client:
        while time.monotonic() < deadline and process.returncode is None:
            if await _is_ready(client):
                return made
            await asyncio.sleep(POLL_SECONDS)
    await process.stop()
    return f"`{program}` did not start: see {process.log}"


async def _is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/-/ready")).is_success
    except httpx.HTTPError:
        return False


def _write(file: Path, document: object) -> None:
    """Write a file that another process may read at any moment."""
    new = file.with_suffix(".new")
    new.write_bytes(orjson.dumps(document))
    new.replace(file)
