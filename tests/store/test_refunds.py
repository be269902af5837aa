"""P2 and I2 for refunds: the version guard, the fence of the order's partition, repair by revisions."""

from __future__ import annotations

import itertools
import secrets
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.refund import Refund
from schemas.refund_transitions import RefundTransition
from tests.store import writing
from tests.store.databases import SELLER, all_unpublished, at, refund_version
from topsync.model.known import Known
from topsync.model.listed import Listed
from topsync.store import orders, refunds
from topsync.store.database import Pool
from topsync.store.refunds import RefundVersion, UnpublishedRefund
from topsync.store.versions import NotOwnerError, PartitionRows, StoredState, UnstorableError

PARTITION = 3
REFUND = 180000000000000101
TID = 4000000000000000101


@pytest.fixture
async def epoch(pool: Pool) -> int:
    return await orders.take_over(pool, PARTITION, "test")


async def write(pool: Pool, epoch: int, *versions: RefundVersion) -> int:
    return await writing.write(refunds.TABLE, pool, *versions, partition=PARTITION, epoch=epoch)


async def row(pool: Pool, refund_id: int = REFUND) -> asyncpg.Record:
    found = await pool.fetchrow("select * from refunds where refund_id = $1", refund_id)
    assert found is not None
    return found


async def publish(pool: Pool, *refund_ids: int) -> list[UnpublishedRefund]:
    return await writing.publish(refunds.TABLE, pool, *refund_ids)


@pytest.mark.parametrize(
    ("modified", "version", "fetched", "wins"),
    [
        pytest.param(9, 99, 99, False, id="an older state never wins, whatever else it has"),
        pytest.param(11, 1, 1, True, id="a newer state wins, whatever else it has"),
        pytest.param(10, 6, 1, True, id="the platform's own version decides within a second"),
        pytest.param(10, 4, 99, False, id="also against a later fetch"),
        pytest.param(10, 5, 21, True, id="the same version fetched later wins"),
        pytest.param(10, 5, 20, False, id="the same version fetched at the same moment does not"),
        pytest.param(10, None, 21, True, id="without a version the later fetch wins"),
        pytest.param(10, None, 19, False, id="without a version the earlier fetch does not"),
    ],
)
async def test_the_guard(
    pool: Pool, epoch: int, modified: float, version: int | None, fetched: float, wins: bool
) -> None:
    await write(pool, epoch, refund_version(REFUND, TID, 10, 20, refund_version=5, reason="old"))
    said: dict[str, Any] = {} if version is None else {"refund_version": version}
    await write(
        pool, epoch, refund_version(REFUND, TID, modified, fetched, reason="new", status="SUCCESS", **said)
    )
    found = await row(pool)
    assert (found["revision"], found["status"]) == ((2, "SUCCESS") if wins else (1, "WAIT_SELLER_AGREE"))
    assert f'"reason": "{"new" if wins else "old"}"' in found["refund"]


@given(
    drawn=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=5, unique_by=lambda drawn: drawn
    )
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_versions_of_a_refund_end_in_the_same_row_whatever_their_order(
    pool: Pool, drawn: list[tuple[int, int]]
) -> None:
    await pool.execute("truncate refunds")
    epoch = await orders.take_over(pool, PARTITION, "test")
    permutations = list(itertools.permutations(drawn))
    for step in range(len(drawn)):
        batch = []
        for refund_id, permutation in enumerate(permutations, start=1):
            modified, version = permutation[step]
            batch.append(
                refund_version(
                    refund_id, TID, modified, 10 + version, refund_version=version, reason=f"{version}"
                )
            )
        await write(pool, epoch, *batch)
    newest = max(drawn)
    found = await pool.fetch("select modified, refund_version, refund ->> 'reason' as reason from refunds")
    assert len(found) == len(permutations)
    assert {tuple(record) for record in found} == {(at(newest[0]), newest[1], str(newest[1]))}


async def test_writing_the_same_versions_again_changes_nothing_and_a_field_of_the_order_is_no_change(
    pool: Pool, epoch: int
) -> None:
    version = refund_version(REFUND, TID, 1, 5, buyer_nick="w**")
    assert await write(pool, epoch, version) == 1
    before = tuple(await row(pool))
    assert await write(pool, epoch, version) == 0
    assert tuple(await row(pool)) == before
    await write(
        pool,
        epoch,
        refund_version(
            REFUND, TID, 1, 6, buyer_nick="wang", address="somewhere", order_status="TRADE_FINISHED"
        ),
    )
    found = await row(pool)
    assert (found["revision"], found["fetched_at"]) == (1, at(6))
    assert '"w**"' in found["refund"]


async def test_a_former_owner_of_the_orders_partition_writes_nothing(pool: Pool, epoch: int) -> None:
    await orders.take_over(pool, PARTITION, "successor")
    with pytest.raises(NotOwnerError):
        await write(pool, epoch, refund_version(REFUND, TID, 1, 5))
    assert await pool.fetchval("select count(*) from refunds") == 0


async def test_of_several_partitions_only_the_lost_partition_is_refused(pool: Pool) -> None:
    epochs = [await orders.take_over(pool, number, "test") for number in range(3)]
    await orders.take_over(pool, 1, "successor")
    parts = [
        PartitionRows(number, epochs[number], [refund_version(REFUND + number, TID, 1, 5)])
        for number in range(3)
    ]
    first, lost, third = await refunds.TABLE.upsert_parts(pool, parts)
    assert isinstance(lost, NotOwnerError)
    assert "partition 1" in str(lost)
    assert not isinstance(first, NotOwnerError)
    assert not isinstance(third, NotOwnerError)
    assert [[ahead.key for ahead in written.ahead] for written in (first, third)] == [[REFUND], [REFUND + 2]]
    assert (await refunds.TABLE.known(pool, range(REFUND, REFUND + 3))).keys() == {REFUND, REFUND + 2}
    assert await pool.fetchval("select count(distinct xmin::text) from refunds") == 1


async def test_a_stored_time_in_the_future_hides_nothing(pool: Pool, epoch: int) -> None:
    table = refunds.TABLE
    await table.upsert(pool, [refund_version(REFUND, TID, 1000, 20)], partition=PARTITION, epoch=epoch)
    (ahead,) = await table.unpublished(pool, [REFUND])
    await table.mark_published(pool, [ahead])
    listed = [Listed(REFUND, at(30), at(31))]
    assert await table.outstanding(pool, listed, latest_now=at(1000)) == set()
    assert await table.outstanding(pool, listed, latest_now=at(999)) == {REFUND}
    agreed = refund_version(REFUND, TID, 30, 31, status="WAIT_BUYER_RETURN_GOODS")
    for second, rows in ((1000, 0), (999, 1)):
        written = await table.upsert(pool, [agreed], partition=PARTITION, epoch=epoch, latest_now=at(second))
        assert written.rows == rows


async def test_a_value_that_the_database_cannot_store_is_reported_without_the_value(
    pool: Pool, epoch: int
) -> None:
    with pytest.raises(UnstorableError) as refused:
        await write(pool, epoch, refund_version(REFUND, TID, 1, 5, status="ssss" + secrets.token_hex(20_000)))
    assert "ssss" not in str(refused.value)


async def test_the_words_of_a_version_that_a_crash_left_unpublished_are_reported_with_the_next_version(
    pool: Pool, epoch: int
) -> None:
    """A subscriber that waits for `created` gets it, although its version was never published."""
    await write(pool, epoch, refund_version(REFUND, TID, 1, 5))
    assert [refund.revision for refund in await all_unpublished(pool, refunds.TABLE)] == [1]
    await write(pool, epoch, refund_version(REFUND, TID, 2, 6, status="SUCCESS", source="sweep"))
    (ahead,) = await publish(pool, REFUND)
    assert (ahead.revision, ahead.tid, ahead.seller_id) == (2, TID, SELLER)
    assert ahead.step.transitions == (
        RefundTransition.CREATED,
        RefundTransition.SUCCEEDED,
        RefundTransition.CORRECTED,
    )
    assert await all_unpublished(pool, refunds.TABLE) == await refunds.TABLE.unpublished(pool, [REFUND]) == []
    await write(pool, epoch, refund_version(REFUND, TID, 3, 7, status="SUCCESS", refund_fee="1.00"))
    (ahead,) = await refunds.TABLE.unpublished(pool, [REFUND])
    assert (ahead.step.transitions, ahead.step.changed) == ((RefundTransition.UPDATED,), ("refund_fee",))


async def test_a_listed_refund_is_outstanding_until_it_is_published_as_listed(pool: Pool, epoch: int) -> None:
    def listed(modified: float, settled_after: float) -> list[Listed]:
        return [Listed(REFUND, at(modified), at(settled_after))]

    assert await refunds.TABLE.outstanding(pool, listed(10, 11)) == {REFUND}
    await write(pool, epoch, refund_version(REFUND, TID, 10, 11))
    assert await refunds.TABLE.outstanding(pool, listed(10, 11)) == {REFUND}, "stored, but not published"
    await publish(pool, REFUND)
    assert await refunds.TABLE.outstanding(pool, listed(10, 11)) == set()
    assert await refunds.TABLE.outstanding(pool, listed(10, 12)) == {REFUND}, "fetched within the second"
    assert await refunds.TABLE.outstanding(pool, listed(11, 11)) == {REFUND}, "listed newer"


async def test_which_refunds_are_known_and_in_which_state(pool: Pool, epoch: int) -> None:
    version = refund_version(REFUND, TID, 10, 11)
    await write(pool, epoch, version)
    assert await refunds.TABLE.known(pool, [REFUND, 7]) == {
        REFUND: Known(at(10), at(11), False, "WAIT_SELLER_AGREE")
    }
    state = StoredState(at(10), version.content_hash)
    [(key, value)] = [found async for found in refunds.TABLE.values_of(pool, [REFUND, 7])]
    assert (key, Refund.from_wire(value).form()) == (REFUND, version.refund)
    assert [found async for found in refunds.TABLE.states(pool, SELLER)] == [(REFUND, state)]
    assert [found async for found in refunds.TABLE.states(pool, SELLER + 1)] == []
