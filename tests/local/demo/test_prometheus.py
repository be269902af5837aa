"""Where Prometheus is on PATH, the demo's Prometheus reads every process, and ends with the demo."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest

from tests.support import pace
from tests.support.eventually import eventually
from topsync.base import telemetry
from topsync.base.settings import TelemetrySettings
from topsync.local.demo import prometheus
from topsync.local.demo.prometheus import DemoPrometheus
from topsync.local.ports import LOOPBACK, free_port
from topsync.local.processes import ProcessGroup

NO_PROMETHEUS = (
    "prometheus is not on PATH, so this was not tried: Debian's package `prometheus` may be unpacked without "
    "being installed (apt-get download prometheus; dpkg-deb -x)"
)


@pytest.mark.at_length
async def test_prometheus_reads_the_processes_that_it_is_given_and_ends_with_the_demo(tmp_path: Path) -> None:
    if shutil.which(prometheus.PROGRAM) is None:
        pytest.skip(NO_PROMETHEUS)
    port = free_port()
    own = TelemetrySettings(telemetry_port=port, telemetry_host=LOOPBACK)
    async with ProcessGroup(tmp_path / "run") as group, telemetry.endpoint(own, is_ready=lambda: True):
        started = await prometheus.start(group)
        assert isinstance(started, DemoPrometheus), started
        started.watch({"enrich": f"http://{LOOPBACK}:{port}/metrics"})
        async with httpx.AsyncClient(base_url=started.url, trust_env=False) as client:

            async def is_read() -> bool:
                query = {"query": 'topsync_gaps_open{instance="enrich"} + 0 * up{instance="enrich"}'}
                answer = (await client.get("/api/v1/query", params=query)).json()
                return len(answer["data"]["result"]) == 1

            await eventually(is_read, within_seconds=pace.seconds(10))
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(started.url)


async def test_without_prometheus_the_demo_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    async with ProcessGroup(tmp_path / "run") as group:
        assert await prometheus.start(group) == "`prometheus` is not on PATH"


async def test_a_prometheus_that_does_not_start_is_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / prometheus.PROGRAM
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    async with ProcessGroup(tmp_path / "run") as group:
        said = await prometheus.start(group)
    assert said == f"`{program}` did not start: see {tmp_path / 'run' / 'prometheus.log'}"
