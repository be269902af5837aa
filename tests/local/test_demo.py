"""`make demo` comes to its end: everything that the outage lost is there, and the audit shows it."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from topsync.local.servers import DATABASE_VARIABLE, KAFKA_VARIABLE


@pytest.mark.at_length
@pytest.mark.parametrize("scheme", ["auto", "two"])
async def test_the_demo_ends_with_a_clean_audit(
    kafka_bootstrap_servers: str, database_url: str, scheme: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "topsync", "demo", "--exit", "--orders", "300", "--sellers", "2"),
        *("--scheme", scheme),
        env={**os.environ, KAFKA_VARIABLE: kafka_bootstrap_servers, DATABASE_VARIABLE: database_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert b"missing=0 stale=0 backwards=0 holes=0" in output
