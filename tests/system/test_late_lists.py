"""P1 when the platform's lists are later than anybody allowed for: measured, learnt, taken back, told of.

Half of the orders come without a message. Only the claims that are taken back let any pull list them again:
the lists are later than sweeps reach back.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import orjson
import pytest

from schemas import cloud_events
from schemas.notification import AllowanceChanged
from tests.support import systems
from tests.support.eventually import eventually
from topsync.local.system import Scale, System

ALLOWANCE_SECONDS, OVERLAP_SECONDS, SWEEP_SECONDS = 2, 1, 1
LATE_SECONDS = 9
"""More than sweeps reach back: allowance, overlap, interval and a second or two for the pull itself."""

SETTINGS = {
    "TOPSYNC_VISIBILITY_ALLOWANCE_SECONDS": str(ALLOWANCE_SECONDS),
    "TOPSYNC_OVERLAP_SECONDS": str(OVERLAP_SECONDS),
    "TOPSYNC_SWEEP_INTERVAL_SECONDS": str(SWEEP_SECONDS),
    "TOPSYNC_VISIBILITY_MOST_SECONDS": "60",
}
LATE = {"max_delay_seconds": LATE_SECONDS, "min_delay_seconds": LATE_SECONDS}


@pytest.mark.at_length
async def test_lists_that_are_later_than_the_allowance_raise_it_and_lose_no_order(
    kafka_bootstrap_servers: str, database_url: str, topic_prefix: str
) -> None:
    async with systems.system_on(
        kafka_bootstrap_servers,
        database_url,
        topic_prefix,
        Scale(sellers=2, orders=40, rate=0, visibility_delay_seconds=0),
        settings=SETTINGS,
    ) as system:
        await system.start_services()
        await system.start("witness")
        await system.run("bootstrap")
        one, other = await systems.seller_ids(system)
        start = await systems.platform_now(system)
        await eventually(lambda: are_complete(system, start))

        await system.admin("POST", "/faults/visibility", LATE)
        unseen = [
            changed
            for seller in (one, other)
            for changed in await systems.change(system, seller, "create", count=3, message=False)
        ]
        (seen,) = await systems.change(system, one, "create")
        # They are claimed, and no list has shown them.
        await eventually(lambda: are_complete(system, seen.modified + timedelta(seconds=1)))
        assert await systems.stored(system, unseen) == 0

        said = await eventually_told(system)
        assert said.is_raised
        assert said.allowance_seconds > LATE_SECONDS
        assert said.evidence is not None
        assert said.evidence.modified <= seen.modified + timedelta(seconds=1)
        assert said.evidence.lacked_at > said.evidence.modified + timedelta(seconds=ALLOWANCE_SECONDS)
        assert said.taken_back_sellers == 2
        await eventually(lambda: are_stored(system, unseen))

        # What follows rests on the new allowance, in every process and without a restart.
        (later,) = await systems.change(system, other, "create", message=False)
        await eventually(lambda: are_complete(system, later.modified + timedelta(seconds=1)))
        await eventually(lambda: are_stored(system, [later]))
        lacked = "select sum(lacked) from arrivals where seconds >= $1"
        assert await systems.value(system, lacked, ALLOWANCE_SECONDS) >= 1
        await require_shown_in_status(system)
        await systems.require_clean_audit(system)


async def eventually_told(system: System) -> AllowanceChanged:
    """The notification, when it is there."""
    found: list[AllowanceChanged] = []

    async def is_told() -> bool:
        records = await systems.records(
            systems.kafka_settings(system), systems.registry(system).notifications
        )
        found[:] = [
            AllowanceChanged.model_validate_json(each.value or b"")
            for each in records
            if cloud_events.attributes(each.headers)["type"] == AllowanceChanged.event_type
        ]
        return bool(found)

    await eventually(is_told)
    return found[0]


async def are_complete(system: System, moment: datetime) -> bool:
    query = "select bool_and(upper((select range_agg(r) from unnest(proven) as r)) >= $1) from coverage"
    return bool(await systems.value(system, query, moment))


async def are_stored(system: System, changed: list[systems.Changed]) -> bool:
    return await systems.stored(system, changed) == len(changed)


async def require_shown_in_status(system: System) -> None:
    _, output = await system.try_run("status", "--json")
    shown = orjson.loads(output.splitlines()[-1] if output.startswith("{") else output)["visibility"]
    assert shown["allowance_seconds"] > LATE_SECONDS
    assert shown["otherwise_seconds"] == ALLOWANCE_SECONDS
    assert shown["because"] == "learned"
    assert shown["since"] is not None
