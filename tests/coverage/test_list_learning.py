"""Lists teach how late they are: the allowance is raised, claims are taken back, each change counts once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

import pytest
from pydantic import SecretStr

from schemas.change import Source
from tests.store.databases import SELLER, at, emptied
from topsync.base.clock import ServerClock
from topsync.coverage.list_learning import ListLearning
from topsync.coverage.listing import SpanPart
from topsync.coverage.lists import SellerList, SpanListing
from topsync.coverage.pull_request import PullRequest
from topsync.model.kind import Kind
from topsync.model.learned_allowance import LearningRules
from topsync.model.span import Span
from topsync.platforms.port import Lists
from topsync.store import coverage, visibility
from topsync.store.coverage import PulledWindow
from topsync.store.database import Pool
from topsync.store.work_leases import LeaseLostError, WorkKind, WorkLease

ALLOWANCE = timedelta(seconds=600)
OTHER = SELLER + 1
MOST = 7200
TID = 4000000000000000101


@dataclass
class Shop:
    """Sellers whose lists a test makes up, at moments that it chooses."""

    pool: Pool
    now: float = 0.0
    is_on: bool = True
    clock: ServerClock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = ServerClock(lambda: self.now)
        self.clock.observe(at(0), sent=0.0, received=0.0)

    def request(self, seller_id: int, start: float) -> PullRequest:
        lease = WorkLease(WorkKind.SELLER, str(seller_id), 1)
        return PullRequest(
            seller_id, SecretStr("x"), at(start), None, Source.SWEEP, "sweep", comes_again=True, lease=lease
        )

    def learning(self) -> ListLearning:
        return ListLearning(self.pool, self.clock, LearningRules(self.is_on, timedelta(seconds=MOST)))

    async def list_at(
        self,
        moment: float,
        shown: Mapping[int, float],
        *,
        start: float | None = None,
        seller_id: int = SELLER,
        kind: Kind = Kind.ORDER,
        claims: bool = True,
    ) -> None:
        """A list at a moment that shows these, and what a pull does with it."""
        self.now = moment
        begins = moment - 1500 if start is None else start
        request = self.request(seller_id, begins)
        learned = max(ALLOWANCE, await self.learning().learned())
        part = SpanPart(
            Span(at(begins), at(moment + 60)), at(moment), {id_: at(m) for id_, m in shown.items()}
        )
        of = SellerList(kind, cast(Lists, None), request, timedelta(days=1))
        proof = Span(at(begins), at(moment) - learned)
        listing = SpanListing(of, [part], [proof], 1, {}, self.clock.latest_now(), [learned])
        await self.learning().learn(request, [listing])
        if claims:
            window = PulledWindow(seller_id, part.span, "sweep", None, part.asked_at, 0, 0, proof.end, kind)
            await coverage.record(self.pool, [window], lease=request.lease)

    async def learned(self) -> float:
        return (await visibility.learned(self.pool)).allowance.total_seconds()

    async def complete_until(self, seller_id: int = SELLER) -> float:
        end = (await coverage.proven(self.pool))[seller_id][0].end
        return (end - at(0)).total_seconds()

    async def counted(self) -> tuple[int, int]:
        counts = (await visibility.histogram(self.pool, at(-1e6))).values()
        return sum(each.shown for each in counts), sum(each.lacked for each in counts)


@pytest.fixture
async def shop(migrated_database_url: str) -> AsyncIterator[Shop]:
    async with emptied(migrated_database_url, connections=6) as pool:
        for seller_id in (SELLER, OTHER):
            await pool.execute(
                "insert into work_leases (kind, key, epoch) values ('seller', $1, 1)", str(seller_id)
            )
        yield Shop(pool)


async def test_an_order_that_a_list_lacks_in_the_time_it_proves_raises_the_allowance_for_all(
    shop: Shop,
) -> None:
    """And what rested on less is taken back from all sellers, as far as the late change reaches."""
    for seller_id in (SELLER, OTHER):
        for moment in (1000, 1300, 1600, 1900):
            await shop.list_at(moment, {}, seller_id=seller_id)
    assert await shop.complete_until() == 1300
    await shop.list_at(2200, {TID: 1250})
    # At least from 1251 to 1900, at most from 1250 to the moment of the answer.
    assert await shop.learned() >= (2200 - 1250) * 1.25
    allowance = await shop.learned()
    assert await shop.complete_until() == 2200 - allowance
    assert await shop.complete_until(OTHER) == 1900 - allowance, "as the allowance would have had it then"
    (raised,) = await visibility.unnotified(shop.pool, limit=10)
    assert (raised.seller_id, raised.kind, raised.object_id) == (SELLER, Kind.ORDER, TID)
    assert (raised.modified, raised.lacked_at) == (at(1250), at(1900))
    assert raised.taken_of == 2
    await shop.list_at(2500, {TID: 1250}, start=1000)
    assert len(await visibility.unnotified(shop.pool, limit=10)) == 1, "told and counted once"
    assert await shop.counted() == (1, 1)


async def test_what_is_late_within_the_allowance_is_counted_and_raises_nothing(shop: Shop) -> None:
    await shop.list_at(1900, {})
    await shop.list_at(2200, {TID: 1500, TID + 1: 2100})
    assert await shop.learned() == 0
    assert await shop.counted() == (2, 1)
    assert await visibility.longest(shop.pool, at(-7200)) == timedelta(seconds=399)


async def test_what_is_learnt_moves_no_claim_that_lists_prove_anyhow(shop: Shop) -> None:
    """A calendar's allowance, or a pull that came later, has proven it by more than what is learnt now."""
    await shop.list_at(1900, {})
    await shop.list_at(9000, {}, start=1000, seller_id=OTHER)
    before = await shop.complete_until(OTHER)
    await shop.list_at(2200, {TID: 1250})
    assert await shop.learned() > 600
    assert await shop.complete_until(OTHER) == min(before, 9000 - await shop.learned())


async def test_refunds_are_measured_by_their_own_lists(shop: Shop) -> None:
    await shop.list_at(1900, {}, kind=Kind.ORDER)
    await shop.list_at(1901, {}, kind=Kind.REFUND, claims=False)
    await shop.list_at(2200, {TID: 1250}, kind=Kind.REFUND, claims=False)
    (raised,) = await visibility.unnotified(shop.pool, limit=10)
    assert (raised.kind, raised.lacked_at) == (Kind.REFUND, at(1901))


async def test_another_sellers_lists_are_no_evidence(shop: Shop) -> None:
    await shop.list_at(1900, {}, seller_id=OTHER)
    await shop.list_at(2200, {TID: 1250})
    assert await shop.counted() == (0, 0)
    assert await shop.learned() == 0


async def test_two_that_learn_at_once_raise_it_once_for_each_and_neither_waits_for_ever(shop: Shop) -> None:
    for seller_id in (SELLER, OTHER):
        await shop.list_at(1900, {}, seller_id=seller_id)
    await asyncio.gather(
        shop.list_at(2200, {TID: 1250}),
        shop.list_at(2200, {TID + 1: 1250}, seller_id=OTHER),
    )
    assert len(await visibility.unnotified(shop.pool, limit=10)) == 1
    assert await shop.counted() == (2, 2)


async def test_where_learning_is_off_it_is_only_measured(shop: Shop) -> None:
    shop.is_on = False
    await shop.list_at(1900, {})
    await shop.list_at(2200, {TID: 1250})
    assert await shop.counted() == (1, 1)
    assert await shop.learned() == 0
    assert await shop.complete_until() == 1600


async def test_a_process_that_lost_its_lease_teaches_nothing(shop: Shop) -> None:
    await shop.list_at(1900, {})
    await shop.pool.execute("update work_leases set epoch = 2")
    with pytest.raises(LeaseLostError):
        await shop.list_at(2200, {TID: 1250})
    assert await shop.counted() == (0, 0)
    assert await shop.learned() == 0


async def test_what_is_listed_while_the_platforms_clock_is_in_doubt_is_no_evidence(shop: Shop) -> None:
    """Two lists may then have been asked for at times of different clocks."""
    await shop.list_at(1900, {})
    shop.clock.observe(at(1900 - 800), sent=1900.0, received=1900.0)
    await shop.list_at(2200, {TID: 1250})
    assert await shop.counted() == (0, 0)
    shop.now = 2200 + 1000
    await shop.list_at(3300, {TID: 1250})
    assert await shop.counted() == (0, 0), "and nothing is remembered of it"


async def test_a_list_from_before_the_platforms_clock_was_set_back_is_no_evidence(shop: Shop) -> None:
    """As another process sees it, which knows nothing of the former time."""
    await shop.list_at(1900, {})
    await shop.pool.execute("update last_lists set asked_at = array[$1::timestamptz]", at(5000))
    await shop.list_at(2200, {TID: 1250})
    assert await shop.counted() == (0, 0)


async def test_an_order_that_the_table_has_and_the_list_lacks_makes_the_next_pull_reach_back_to_it(
    shop: Shop,
) -> None:
    """A message brought it. The lists are later than sweeps reach back, and no other list would show it."""
    await shop.pool.execute(
        "insert into orders (tid, seller_id, created, modified, status, content_hash, fetched_at, source, "
        "published_revision, trade) values ($1, $2, $3, $3, 'PAID', '', $3, 'push', 1, '{}')",
        TID,
        SELLER,
        at(1250),
    )
    await shop.list_at(1900, {})
    later = shop.request(SELLER, 3000)
    assert await shop.learning().oldest_awaited(later) == at(1250)
    shop.now = 1250 + MOST + 5
    assert await shop.learning().oldest_awaited(later) is None, "the platform hides it"
    await shop.list_at(2200, {TID: 1250})
    assert await shop.learning().oldest_awaited(later) is None
    assert await shop.learned() > 600
