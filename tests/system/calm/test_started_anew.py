"""A bulk start of a seller that is live repairs, and moves nothing backwards (P2, P5)."""

from __future__ import annotations

import orjson
import pytest

from tests.support import systems
from tests.support.eventually import eventually
from topsync.local.system import System

pytestmark = pytest.mark.asyncio(loop_scope="package")

TIMES = "select tid, modified, revision from orders where seller_id = $1"
CERTIFICATES = "select count(*) from certificates where seller_id = $1"


async def orders_of(calm: System, seller: int) -> dict[int, tuple[object, int]]:
    return {row["tid"]: (row["modified"], row["revision"]) for row in await systems.rows(calm, TIMES, seller)}


async def test_a_bulk_start_of_a_live_seller_brings_back_what_is_missing_and_no_more(calm: System) -> None:
    seller, *_ = await systems.seller_ids(calm)
    (changed,) = await systems.change(calm, seller, "create")

    async def is_stored() -> bool:
        return await systems.stored(calm, [changed]) == 1

    await eventually(is_stored)
    before, certificates = await orders_of(calm, seller), await systems.value(calm, CERTIFICATES, seller)
    # Not published again since: of an order of several revisions, subscribers would see the first come back.
    lost = min(tid for tid, (_, revision) in before.items() if revision == 1)
    await systems.rows(calm, "delete from orders where tid = $1", lost)

    (plan,) = (await calm.run("bootstrap", "--seller", str(seller), "--plan", "--json")).splitlines()
    planned = orjson.loads(plan)
    assert {each["kind"]: each["way"] for each in planned["slices"]}["order"] == "export"
    assert planned["orders"] > 0
    assert lost not in await orders_of(calm, seller), "a plan starts nothing"

    await calm.run("bootstrap", "--seller", str(seller))
    after = await orders_of(calm, seller)
    assert after.keys() == before.keys()
    assert after[lost][0] == before[lost][0]
    del before[lost], after[lost]
    assert after == before, "nothing that was there is written anew"
    assert await systems.value(calm, CERTIFICATES, seller) == certificates + 1
    assert (await calm.run("bootstrap", "status")) == "no bulk start is under way\n"
    await calm.run("certificate", "verify", str(seller))
    await systems.require_clean_audit(calm)
