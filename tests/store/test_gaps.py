"""How a lost connection opens gaps, and how a new connection ends them."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from tests.store.databases import SELLER, at
from topsync.model.gap import Gap
from topsync.model.scheme import Scheme
from topsync.store import gaps, push_connections, sellers
from topsync.store.database import Pool
from topsync.store.push_connections import PushConnection

SILENT_FOR = timedelta(seconds=15)


def connection(
    began: float, proof: float, *, lost: float | None = None, id_: UUID | None = None
) -> PushConnection:
    return PushConnection(
        id_ or uuid4(),
        "default",
        at(began),
        at(proof),
        None if lost is None else at(lost),
        None if lost is None else "closed",
    )


async def open_for(pool: Pool, lost: PushConnection, installation: Scheme = Scheme.AUTO) -> int:
    """As the reconciler handles a lost connection."""
    async with pool.acquire() as taken, taken.transaction():
        opened = await gaps.open_for_all(taken, lost, installation, now=at(100))
        await push_connections.close_stale(taken, lost.id)
    return opened


async def lost(pool: Pool) -> list[PushConnection]:
    async with pool.acquire() as taken:
        return await push_connections.lost(taken, silent_for=SILENT_FOR)


async def fall_silent(pool: Pool, id_: UUID) -> None:
    """As if nothing had been written for a minute."""
    await pool.execute("update push_connections set written_at = now() - interval '1 min' where id = $1", id_)


async def test_a_connection_is_up_until_it_is_lost_or_silent(pool: Pool) -> None:
    first, other = connection(0, 5), connection(1, 6)
    for each in (other, first):
        await push_connections.write(pool, each)
    assert await push_connections.up(pool, silent_for=SILENT_FOR) == [first, other]
    assert await lost(pool) == []
    await fall_silent(pool, first.id)
    assert await push_connections.up(pool, silent_for=SILENT_FOR) == [other]
    (silent,) = await lost(pool)
    assert silent.id == first.id
    assert silent.reason == "the push process stopped writing"
    await push_connections.write(pool, connection(1, 7, lost=9, id_=other.id))
    assert await push_connections.up(pool, silent_for=SILENT_FOR) == []
    assert [(gone.id, gone.reason) for gone in await lost(pool)] == [
        (first.id, "the push process stopped writing"),
        (other.id, "closed"),
    ]


async def test_the_last_proof_of_a_connection_never_moves_back(pool: Pool) -> None:
    former = connection(0, 50)
    await push_connections.write(pool, former)
    await push_connections.write(pool, connection(0, 20, id_=former.id))
    assert [up.last_proof_at for up in await push_connections.up(pool, silent_for=SILENT_FOR)] == [at(50)]


async def test_a_loss_shows_what_the_last_proof_really_was(pool: Pool) -> None:
    former = connection(0, 50)
    await push_connections.write(pool, former)
    await push_connections.write(pool, connection(0, 20, lost=60, id_=former.id))
    assert [gone.last_proof_at for gone in await lost(pool)] == [at(20)], (
        "silent: acknowledgements proved nothing"
    )


async def test_a_loss_opens_a_single_gap_for_each_seller_from_the_last_proof(pool: Pool) -> None:
    gone = connection(0, 40, lost=60)
    await push_connections.write(pool, gone)
    assert await open_for(pool, gone) == 2
    assert await open_for(pool, gone) == 0
    assert await lost(pool) == []
    found = await gaps.open_gaps(pool)
    assert [(gap.seller_id, gap.began, gap.ended, gap.cause, gap.opened_at) for gap in found] == [
        (SELLER, at(40), None, "closed", at(100)),
        (SELLER + 1, at(40), None, "closed", at(100)),
    ]


@pytest.mark.parametrize(
    ("installation", "own", "with_gaps"),
    [
        (Scheme.THREE, Scheme.TWO, [SELLER + 1]),
        (Scheme.TWO, Scheme.THREE, [SELLER]),
        (Scheme.ONE, None, []),
    ],
    ids=["a seller without", "a seller with", "none"],
)
async def test_a_loss_opens_no_gap_for_a_seller_without_messages(
    pool: Pool, installation: Scheme, own: Scheme | None, with_gaps: list[int]
) -> None:
    await sellers.set_scheme(pool, SELLER, own)
    gone = connection(0, 40, lost=60)
    await push_connections.write(pool, gone)
    assert await open_for(pool, gone, installation) == len(with_gaps)
    assert [gap.seller_id for gap in await gaps.open_gaps(pool)] == with_gaps


async def test_gaps_of_sellers_that_wait_for_no_reconnection_end_at_once_and_keep_that_end(
    pool: Pool,
) -> None:
    gone = connection(0, 40, lost=60)
    await push_connections.write(pool, gone)
    await open_for(pool, gone)
    await sellers.set_scheme(pool, SELLER, Scheme.TWO)
    async with pool.acquire() as taken:
        for moment in (10, 80):
            await gaps.end_without_messages(taken, Scheme.AUTO, at=at(moment))
    assert {gap.seller_id: gap.ended for gap in await gaps.open_gaps(pool)} == {
        SELLER: at(40),
        SELLER + 1: None,
    }, "never before it began"


async def test_a_connection_that_was_noted_as_silent_and_writes_again_can_be_lost_again(
    pool: Pool,
) -> None:
    former = connection(0, 40)
    await push_connections.write(pool, former)
    await fall_silent(pool, former.id)
    (silent,) = await lost(pool)
    await open_for(pool, silent)
    await push_connections.write(pool, connection(0, 70, id_=former.id))
    (back,) = await push_connections.up(pool, silent_for=SILENT_FOR)
    await gaps.end_by(pool, back)
    assert {gap.ended for gap in await gaps.open_gaps(pool)} == {at(70)}
    await push_connections.write(pool, connection(0, 80, lost=90, id_=former.id))
    (again,) = await lost(pool)
    assert await open_for(pool, again) == 2
    assert (
        sorted((gap.began, gap.ended) for gap in await gaps.open_gaps(pool) if gap.ended)
        == [(at(40), at(70))] * 2
    )
    assert [gap.began for gap in await gaps.open_gaps(pool) if gap.ended is None] == [at(80)] * 2


async def test_a_gap_ends_at_the_reconnection_and_keeps_that_end(pool: Pool) -> None:
    gone = connection(0, 40, lost=60)
    await push_connections.write(pool, gone)
    await open_for(pool, gone)
    await gaps.end_by(pool, connection(10, 30))
    assert {gap.ended for gap in await gaps.open_gaps(pool)} == {None}, "it existed before the loss"
    await gaps.end_by(pool, connection(70, 71))
    await gaps.end_by(pool, connection(200, 201))
    assert {gap.ended for gap in await gaps.open_gaps(pool)} == {at(70)}


@pytest.mark.parametrize(
    ("began", "ended"),
    [(0, 65), (50, 60)],
    ids=["it existed all the time", "came before the loss was noticed"],
)
async def test_another_connection_of_the_group_ends_a_gap_only_after_the_loss_was_noticed(
    pool: Pool, began: float, ended: float
) -> None:
    """Until then the platform may have sent messages to the lost connection."""
    gone = connection(0, 40, lost=60)
    await push_connections.write(pool, gone)
    await open_for(pool, gone)
    other = uuid4()
    await gaps.end_by(pool, connection(began, 59, id_=other))
    assert {gap.ended for gap in await gaps.open_gaps(pool)} == {None}
    await gaps.end_by(pool, connection(began, 65, id_=other))
    assert {gap.ended for gap in await gaps.open_gaps(pool)} == {at(ended)}


async def test_a_closed_gap_is_open_no_more_and_stays_closed(pool: Pool) -> None:
    gone = connection(0, 40, lost=60)
    await push_connections.write(pool, gone)
    await open_for(pool, gone)
    first, second = await gaps.open_gaps(pool)
    await gaps.mark_pulled(pool, [first], at(110))
    await gaps.close(pool, [first], at(120))
    await gaps.close(pool, [first], at(999))
    assert [gap.id for gap in await gaps.open_gaps(pool)] == [second.id]
    closed_at = await pool.fetchval("select closed_at from gaps where id = $1", first.id)
    assert closed_at == at(120)
    # A closed gap is never given another end.
    await gaps.end_by(pool, connection(70, 71))
    assert await pool.fetchval("select ended from gaps where id = $1", first.id) is None


async def test_gaps_are_returned_oldest_first_with_their_last_pull(pool: Pool) -> None:
    for began in (50, 20):
        gone = connection(0, began, lost=60)
        await push_connections.write(pool, gone)
        await open_for(pool, gone)
    found = await gaps.open_gaps(pool)
    assert [gap.began for gap in found] == [at(20), at(20), at(50), at(50)]
    await gaps.mark_pulled(pool, found[:1], at(130))
    assert (await gaps.open_gaps(pool))[0] == Gap(
        found[0].id, found[0].seller_id, at(20), None, found[0].cause, at(100), at(130)
    )
