"""Fields that come and go, and hashes of an earlier release: they make no version (I2)."""

from __future__ import annotations

import hashlib
from typing import Any

import asyncpg
import orjson
import pytest

from tests.store.databases import SELLER, at, refund_version, trade, version
from topsync.store import orders, refunds
from topsync.store.database import Pool
from topsync.store.orders import OrderVersion
from topsync.store.versions import T, V, VersionTable

PARTITION = 3
TID = 4000000000000000101
REFUND = 180000000000000101
NEW: dict[str, Any] = {"x_new_text": "新", "x_new_number": 2**60}
NEW_GONE: dict[str, Any] = {}
OLD_HASH = "sha256(convert_to('an earlier release' || content_hash::text, 'utf8'))"
MANY = 300


@pytest.fixture
async def epoch(pool: Pool) -> int:
    return await orders.take_over(pool, PARTITION, "test")


async def write(pool: Pool, epoch: int, table: VersionTable[V, T], *versions: V) -> int:
    """How many versions are new to the topic; they are noted as published."""
    written = await table.upsert(pool, versions, partition=PARTITION, epoch=epoch)
    await table.mark_published(pool, written.ahead)
    return len(written.ahead)


async def row(pool: Pool) -> asyncpg.Record:
    found = await pool.fetchrow("select *, trade::text as value from orders")
    assert found is not None
    return found


async def test_an_unknown_field_that_is_there_for_eight_seconds_leaves_an_unchanged_order_as_it_was(
    pool: Pool, epoch: int
) -> None:
    assert await write(pool, epoch, orders.TABLE, version(TID, 1, 10)) == 1
    before = await row(pool)
    for fetched, fields in ((11, NEW), (19, NEW_GONE)):
        assert await write(pool, epoch, orders.TABLE, version(TID, 1, fetched, **fields)) == 0
    after = await row(pool)
    assert (after["revision"], after["value"], after["fetched_at"]) == (1, before["value"], at(19))


async def test_an_unknown_field_is_carried_until_the_orders_next_version(pool: Pool, epoch: int) -> None:
    await write(pool, epoch, orders.TABLE, version(TID, 1, 10, **NEW))
    assert await write(pool, epoch, orders.TABLE, version(TID, 1, 20)) == 0
    assert orjson.loads((await row(pool))["value"])["platform_fields"] == NEW
    assert await write(pool, epoch, orders.TABLE, version(TID, 2, 30)) == 1
    assert orjson.loads((await row(pool))["value"])["platform_fields"] == {}


async def test_an_unknown_field_of_a_refund_makes_no_version(pool: Pool, epoch: int) -> None:
    for fetched, fields, new in ((10, NEW_GONE, 1), (11, NEW, 0), (19, NEW_GONE, 0)):
        refund = refund_version(REFUND, TID, 1, fetched, **fields)
        assert await write(pool, epoch, refunds.TABLE, refund) == new
    assert await pool.fetchval("select revision from refunds") == 1


async def test_a_field_that_the_platform_leaves_out_stays_and_makes_a_version_when_it_comes(
    pool: Pool, epoch: int
) -> None:
    whole: dict[str, Any] = {"commission_fee": "1.00"}
    await write(pool, epoch, orders.TABLE, version(TID, 1, 10, **whole))
    assert await write(pool, epoch, orders.TABLE, version(TID, 1, 11)) == 0
    assert orjson.loads((await row(pool))["value"])["commission_fee"] == "1.00"
    assert await write(pool, epoch, orders.TABLE, version(TID, 2, 12)) == 1
    assert await write(pool, epoch, orders.TABLE, version(TID, 2, 13, **whole)) == 1
    assert (await row(pool))["revision"] == 3


async def test_rows_of_an_earlier_release_whose_hash_counted_other_fields_are_the_same_versions(
    pool: Pool, epoch: int
) -> None:
    """Like the million rows at an upgrade. Half have an unknown field that is gone by now."""

    def fetched_at(second: float, **changes: Any) -> list[OrderVersion]:
        return [
            version(
                TID + number, 5, second, **({**NEW, **changes} if number % 2 and second == 10 else changes)
            )
            for number in range(MANY)
        ]

    assert await write(pool, epoch, orders.TABLE, *fetched_at(10)) == MANY
    await pool.execute(f"update orders set content_hash = {OLD_HASH}")
    rows = await pool.fetch(
        "select tid, revision, published_revision, trade::text, step::text from orders order by tid"
    )
    for second in (10, 8, 20, 21):  # the same fetch once more, an earlier fetch, later fetches
        assert await write(pool, epoch, orders.TABLE, *fetched_at(second)) == 0
    assert rows == await pool.fetch(
        "select tid, revision, published_revision, trade::text, step::text from orders order by tid"
    )
    assert {record["fetched_at"] for record in await pool.fetch("select fetched_at from orders")} == {at(21)}
    assert await write(pool, epoch, orders.TABLE, *fetched_at(22, seller_memo="changed")) == MANY
    assert await write(pool, epoch, orders.TABLE, *fetched_at(21)) == 0, "an older state never wins"


async def test_a_row_of_an_earlier_release_takes_a_newer_version_and_refuses_an_older_one(
    pool: Pool, epoch: int
) -> None:
    await write(pool, epoch, orders.TABLE, version(TID, 5, 10))
    await pool.execute("update orders set content_hash = $1", hashlib.sha256(b"old").digest())
    assert await write(pool, epoch, orders.TABLE, version(TID, 4, 20)) == 0
    assert (await row(pool))["modified"] == at(5)
    assert await write(pool, epoch, orders.TABLE, version(TID, 6, 21)) == 1
    after = await row(pool)
    assert (after["modified"], after["revision"]) == (at(6), 2)
    assert after["content_hash"] == trade(TID, 6).content_hash()


async def test_a_refund_of_an_earlier_release_is_the_same_version(pool: Pool, epoch: int) -> None:
    await write(pool, epoch, refunds.TABLE, refund_version(REFUND, TID, 1, 10, **NEW))
    await pool.execute(f"update refunds set content_hash = {OLD_HASH}")
    assert await write(pool, epoch, refunds.TABLE, refund_version(REFUND, TID, 1, 20)) == 0
    assert await write(pool, epoch, refunds.TABLE, refund_version(REFUND, TID, 1, 30, reason="another")) == 1


async def test_a_version_that_was_stored_and_not_published_is_published_as_it_is_stored(
    pool: Pool, epoch: int
) -> None:
    """An earlier release stored it, and the process died before it published."""
    await orders.TABLE.upsert(pool, [version(TID, 1, 10, **NEW)], partition=PARTITION, epoch=epoch)
    await pool.execute(f"update orders set content_hash = {OLD_HASH}")
    written = await orders.TABLE.upsert(pool, [version(TID, 1, 20)], partition=PARTITION, epoch=epoch)
    [ahead] = written.ahead
    assert orjson.loads(ahead.value) == orjson.loads((await row(pool))["value"])
    assert (ahead.revision, ahead.seller_id) == (1, SELLER)
    assert ahead.step.status_from is None


HOME: dict[str, Any] = {
    "receiver_state": "浙江省",
    "receiver_city": "杭州市",
    "receiver_district": "余杭区",
    "receiver_name": "王**",
    "receiver_address": "示**路**号",
    "oaid": "1exampleaddressee01",
}
ELSEWHERE: dict[str, Any] = {**HOME, "receiver_city": "宁波市", "receiver_district": "海曙区"}
REMASKED: dict[str, Any] = {"receiver_name": "*", "receiver_address": "***", "oaid": "1exampleaddressee99"}


@pytest.mark.parametrize("stored_by", ["this release", "an earlier release"])
async def test_another_masking_makes_no_version_but_another_place_in_the_same_second_makes_a_version(
    pool: Pool, epoch: int, stored_by: str
) -> None:
    """The hashes of an earlier release left the place out: still none of its orders is published again."""
    await write(pool, epoch, orders.TABLE, version(TID, 1, 10, **HOME))
    if stored_by == "an earlier release":
        await pool.execute(f"update orders set content_hash = {OLD_HASH}")
    assert await write(pool, epoch, orders.TABLE, version(TID, 1, 11, **{**HOME, **REMASKED})) == 0
    elsewhere = version(TID, 1, 12, **{**ELSEWHERE, **REMASKED})
    [ahead] = (await orders.TABLE.upsert(pool, [elsewhere], partition=PARTITION, epoch=epoch)).ahead
    assert (ahead.revision, ahead.step.words) == (2, ("address-changed",))
    assert ahead.step.changed == (
        *("oaid", "receiver_address", "receiver_city", "receiver_district", "receiver_name"),
    ), "names, and no values"
    await orders.TABLE.mark_published(pool, [ahead])
    again = version(TID, 1, 13, **ELSEWHERE)
    assert await write(pool, epoch, orders.TABLE, again) == 0


async def test_a_place_that_comes_is_stored_without_a_change_of_address_and_a_place_that_is_left_out_stays(
    pool: Pool, epoch: int
) -> None:
    await write(pool, epoch, orders.TABLE, version(TID, 1, 10))
    [ahead] = (
        await orders.TABLE.upsert(pool, [version(TID, 1, 11, **HOME)], partition=PARTITION, epoch=epoch)
    ).ahead
    assert ahead.step.words == ("updated",)
    await orders.TABLE.mark_published(pool, [ahead])
    assert await write(pool, epoch, orders.TABLE, version(TID, 1, 12)) == 0
    assert orjson.loads((await row(pool))["value"])["receiver_city"] == HOME["receiver_city"]
