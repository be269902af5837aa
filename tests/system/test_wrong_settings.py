"""A wrong setting stops a process at its start, with status 2 and a line: setting, problem, fix."""

from __future__ import annotations

import asyncio
import os
import re
import sys

import pytest

from tests.support import commands
from topsync.base.vault import new_key
from topsync.local.ports import free_port

NOBODY = f"127.0.0.1:{free_port()}"
"""No server listens here: a process that asks it before reading all settings would try for a minute."""

GOOD = {
    "KAFKA_BOOTSTRAP_SERVERS": NOBODY,
    "TOPSYNC_DATABASE_URL": f"postgresql://nobody:nothing@{NOBODY}/topsync",
    "TOPSYNC_APP_KEY": "99000001",
    "TOPSYNC_APP_SECRET": "simulator-secret-0001",
    "TOPSYNC_TOKEN_KEYS": new_key(),
    "TOPSYNC_GATEWAY_URL": f"http://{NOBODY}/router/rest",
    "TOPSYNC_CHANNEL_URL": f"ws://{NOBODY}/",
}
WITHIN_SECONDS = 20


@pytest.mark.parametrize(
    ("command", "setting", "wrong"),
    [
        ("push", "TOPSYNC_PARTITIONS", "x"),
        ("push", "TOPSYNC_APP_SECRET", None),
        ("push", "TOPSYNC_CHANNEL_URL", "http://127.0.0.1/"),
        ("push", "TOPSYNC_DATABASE_URL", "127.0.0.1:5432"),
        ("enrich", "TOPSYNC_TOKEN_KEYS", "no-key"),
        ("enrich", "TOPSYNC_SESSION_TIMEOUT_SECONDS", "-1"),
        ("enrich", "TOPSYNC_DATABASE_URL", None),
        ("reconcile", "TOPSYNC_TOKEN_KEYS", None),
        ("reconcile", "TOPSYNC_PAGE_SIZE", "1000"),
        ("bootstrap", "TOPSYNC_EXPORT_DAYS", "91"),
        ("witness", "KAFKA_BOOTSTRAP_SERVERS", None),
        ("enrich", "TOPSYNC_CALENDAR_FILE", "/nowhere/calendar.toml"),
        ("migrate", "TOPSYNC_DATABASE_URL", None),
        ("topics apply", "TOPSYNC_REPLICATION_FACTOR", "none"),
        ("push", "TOPSYNC_LOG_LEVEL", "loud"),
        ("reconcile", "TOPSYNC_DATABASE_URL", "postgresql://user:nothing@database:5432/topsync"),
        ("topics apply", "TOPSYNC_KAFKA_CA_FILE", "/nowhere/ca.pem"),
        ("enrich", "HTTPS_PROXY", "https://user:nothing@proxy:3128"),
    ],
)
async def test_a_wrong_setting_is_one_line_and_status_2(
    command: str, setting: str, wrong: str | None
) -> None:
    given = {**os.environ, **GOOD}
    if wrong is None:
        del given[setting]
    else:
        given[setting] = wrong
    status, output = await commands.run(command.split(), given, given="", timeout_seconds=WITHIN_SECONDS)

    assert status == 2
    (line,) = output.splitlines()
    assert line.startswith("topsync")
    assert f"{setting}: " in line
    assert re.search("Set it: |or set: |Make one with ", line)
    for secret in ("simulator-secret-0001", "nothing", GOOD["TOPSYNC_TOKEN_KEYS"]):
        assert secret not in line


async def test_the_line_is_all_that_a_started_process_prints() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "topsync", "enrich"),
        env={**os.environ, **GOOD, "TOPSYNC_SESSION_TIMEOUT_SECONDS": "-1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(WITHIN_SECONDS):
        output, errors = await process.communicate()
    assert (process.returncode, output) == (2, b"")
    assert len(errors.splitlines()) == 1
