"""P1, I3, the demo's story: bulk start, live, an outage that loses messages, and nothing is missing.

It has the demo's own settings. `test_cut` in `test_scenarios.py` plays the same to more sellers, with shorter
waits.
"""

from __future__ import annotations

import os
from datetime import timedelta

import pytest

from tests.support import systems
from tests.support.eventually import eventually
from topsync.local.system import Scale, System

SEEDS = [int(seed) for seed in os.environ.get("TOPSYNC_TEST_SEEDS", "1").split()]
"""The worlds of the story: each takes half a minute, so there are more than one only on request."""

RATE = 40
LIVE_CHANGES = 2 * RATE
CUT_SECONDS = 3


@pytest.mark.at_length
@pytest.mark.parametrize("seed", SEEDS)
async def test_an_outage_that_loses_messages_leaves_nothing_missing(
    kafka_bootstrap_servers: str, database_url: str, topic_prefix: str, seed: int
) -> None:
    scale = Scale(sellers=2, orders=300, rate=RATE, seed=seed)
    async with systems.system_on(kafka_bootstrap_servers, database_url, topic_prefix, scale) as system:
        await system.start_services()
        await system.start("witness")
        await system.run("bootstrap")
        await eventually(lambda: has_pushed(system, at_least=LIVE_CHANGES))

        async with systems.gaps_opened_and_closed(system):
            await system.admin("POST", "/faults/cut", {"seconds": CUT_SECONDS, "lose_messages": True})

        for gap in await systems.rows(system, GAPS):
            assert gap["began"] == gap["last_proof_at"]
            assert gap["closed_at"] > gap["ended"] > gap["began"] + timedelta(seconds=CUT_SECONDS - 1)
        assert (await systems.channel(system))["lost"] > RATE
        system.require_running()
        await systems.require_clean_audit(system)


GAPS = """
select began, ended, closed_at, last_proof_at
from gaps join push_connections on push_connections.id = gaps.connection
"""


async def has_pushed(system: System, *, at_least: int) -> bool:
    pushed = [hint for hint in await systems.changes(system) if hint["source"] == "push"]
    return len(pushed) >= at_least
