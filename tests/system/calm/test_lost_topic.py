"""P1, P5: a system that has lost its topic of orders says so, and when it reports the repair it is whole."""

from __future__ import annotations

import pytest

from tests.stream.clusters import make_anew
from tests.support import systems
from tests.support.eventually import eventually
from topsync.local.system import System

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest.mark.at_length
async def test_a_deleted_topic_is_noticed_and_after_a_republication_the_audit_is_clean(calm: System) -> None:
    kafka, orders = systems.kafka_settings(calm), systems.registry(calm).orders
    stored = await systems.value(calm, "select count(*) from orders")
    await make_anew(kafka, orders)
    seller, *_ = await systems.seller_ids(calm)
    changed = await systems.change(calm, seller, "create", count=3)

    async def is_noticed() -> bool:
        status, output = await calm.try_run("status")
        return status == 1 and "the topic orders was deleted and made anew: run `topsync republish`" in output

    await eventually(is_noticed)
    assert "in the table only" in await calm.run("sellers", "show", str(seller))
    status, output = await calm.try_run("audit", "--settle-seconds", "0")
    assert status == 1, output

    async def is_stored() -> bool:
        return await systems.stored(calm, changed) == len(changed)

    await eventually(is_stored)
    output = await calm.run("republish", "--only", "orders")
    assert f"{stored + len(changed):,} orders published again in" in output
    seen = {int(record.key) for record in await systems.records(kafka, orders)}
    assert len(seen) == stored + len(changed)
    _, output = await calm.try_run("status")
    assert "made anew" not in output
    await systems.require_clean_audit(calm)
