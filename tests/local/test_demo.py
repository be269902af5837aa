"""`make demo` comes to its end: all that the outage lost is there, the audit shows it, and the page ends."""

from __future__ import annotations

import asyncio
import os
import sys

import httpx
import pytest

from tests.support.systems import apart
from topsync.local.servers import DATABASE_VARIABLE, KAFKA_VARIABLE


@pytest.mark.at_length
@pytest.mark.parametrize("scheme", ["auto", "two"])
async def test_the_demo_ends_with_a_clean_audit(
    kafka_bootstrap_servers: str, database_url: str, topic_prefix: str, scheme: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "topsync", "demo", "--exit", "--watch", "--orders", "300", "--sellers", "2"),
        *("--scheme", scheme),
        env={
            **os.environ,
            **apart(topic_prefix),
            KAFKA_VARIABLE: kafka_bootstrap_servers,
            DATABASE_VARIABLE: database_url,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    page = ""
    while not page:
        line = await process.stdout.readline()
        assert line, "the demo ended without a page"
        page = line.split()[-1].decode() if b"browser" in line else ""
    async with httpx.AsyncClient(trust_env=False) as client:
        assert "<title>topsync demo</title>" in (await client.get(page)).text
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        assert b"missing=0 stale=0 backwards=0 holes=0" in output
        with pytest.raises(httpx.ConnectError):
            await client.get(page)
