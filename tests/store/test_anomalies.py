"""What all processes have seen is added up, and each kind is notified at most once an hour."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from tests.store.databases import SELLER, at
from topsync.model.anomaly import LASTS, NOTIFIED_EVERY, OTHERS, AnomalyKind, FoundAnomaly, Sightings
from topsync.model.difference import Difference, DifferenceKind, DifferenceOutcome
from topsync.model.kind import Kind
from topsync.model.span import Span
from topsync.store import anomalies, comparisons, erasures
from topsync.store.anomalies import ShopPresent
from topsync.store.database import Pool

FIELD, SILENT = AnomalyKind.UNKNOWN_FIELD, AnomalyKind.SILENT_SHOP
HOUR = timedelta(hours=1)
TID = 4000000000000000101


def seen(*names: str, times: int = 1, seller_id: int | None = SELLER, tid: int = TID) -> Sightings:
    sightings = Sightings()
    for name in names:
        sightings.note(FIELD, name, seller_id=seller_id, tid=tid, count=times)
    return sightings


def silence(orders: int = 0) -> FoundAnomaly:
    return FoundAnomaly(SILENT, str(SELLER), orders, expected=200.0, deviation=14.0, seller_id=SELLER)


async def names(pool: Pool) -> dict[str, int]:
    return {each.name: each.seen for each in await anomalies.lasting(pool)}


async def later(pool: Pool, by: timedelta) -> None:
    """Let time pass."""
    await pool.execute(
        "update anomalies set first_at = first_at - $1::interval, last_at = last_at - $1::interval", by
    )
    await pool.execute(
        "update anomaly_notices set published_at = published_at - $1::interval",
        by,
    )


async def notify(pool: Pool, kind: AnomalyKind = FIELD, id_: str = "a", *, published: bool = True) -> bool:
    untold = [each.name for each in await anomalies.untold(pool) if each.kind is kind]
    decided = await anomalies.decide(pool, kind, untold, id=id_, body="{}")
    for notice in await anomalies.pending(pool) if published else []:
        await anomalies.published(pool, notice)
    return decided


async def test_what_processes_see_is_added_up_with_the_last_example(pool: Pool) -> None:
    await anomalies.sight(pool, seen("order.a", "order.b", times=2))
    await anomalies.sight(pool, seen("order.a", tid=TID + 1))
    found = {each.name: each for each in await anomalies.lasting(pool)}
    assert {name: (each.seen, each.tid, each.seller_id) for name, each in found.items()} == {
        "order.a": (3, TID + 1, SELLER),
        "order.b": (2, TID, SELLER),
    }


async def test_a_platform_that_makes_names_up_fills_no_table(pool: Pool) -> None:
    await pool.execute(
        "insert into anomalies (kind, name, seen) select 'unknown_field', 'x' || n, 1 "
        "from generate_series(1, $1) as n",
        anomalies.MOST_NAMES,
    )
    await anomalies.sight(pool, seen("x1", "order.new", "order.newer"))
    assert await pool.fetchval("select count(*) from anomalies") == anomalies.MOST_NAMES + 1
    found = await names(pool)
    assert (found["x1"], found[OTHERS]) == (2, 2)


async def test_many_processes_write_at_once(pool: Pool) -> None:
    some = [f"order.x{number}" for number in range(20)]
    await asyncio.gather(
        *(anomalies.sight(pool, seen(*(some if turn % 2 else reversed(some)))) for turn in range(20))
    )
    assert set((await names(pool)).values()) == {20}


async def test_a_kind_is_notified_at_most_once_an_hour_and_every_name_once(pool: Pool) -> None:
    await anomalies.sight(pool, seen("order.a"))
    assert await notify(pool)
    assert await anomalies.untold(pool) == []
    await anomalies.sight(pool, seen("order.a", "order.b"))
    assert not await notify(pool), "within the hour"
    assert [each.name for each in await anomalies.untold(pool)] == ["order.b"], "it waits"
    await anomalies.find(pool, [silence()])
    assert await notify(pool, SILENT), "another kind has an hour of its own"
    await later(pool, NOTIFIED_EVERY)
    assert await notify(pool)
    assert await anomalies.untold(pool) == []


async def test_of_many_processes_that_decide_at_once_one_notifies(pool: Pool) -> None:
    await anomalies.sight(pool, seen("order.a"))
    decided = await asyncio.gather(
        *(anomalies.decide(pool, FIELD, ["order.a"], id=f"of-{number}", body="{}") for number in range(10))
    )
    assert sorted(decided) == [False] * 9 + [True]
    (pending,) = await anomalies.pending(pool)
    assert pending.id == f"of-{decided.index(True)}"


async def test_what_was_decided_waits_for_whoever_publishes_it(pool: Pool) -> None:
    """As when a process died: nothing else is decided meanwhile, and the hour counts from the end."""
    await anomalies.sight(pool, seen("order.a"))
    assert await notify(pool, published=False)
    await later(pool, 3 * NOTIFIED_EVERY)
    await anomalies.sight(pool, seen("order.b"))
    assert not await notify(pool, id_="b", published=False)
    (pending,) = await anomalies.pending(pool)
    assert pending.id == "a"
    await anomalies.published(pool, pending)
    assert await anomalies.pending(pool) == []
    assert not await notify(pool, id_="b")
    await later(pool, NOTIFIED_EVERY)
    assert await notify(pool, id_="b")


async def test_what_is_judged_ends_and_is_notified_again_when_it_comes_again(pool: Pool) -> None:
    await anomalies.find(pool, [silence()])
    await notify(pool, SILENT)
    await anomalies.find(pool, [silence(3)])
    assert await anomalies.untold(pool) == [], "it lasts"
    await anomalies.end(pool, SILENT, but=[str(SELLER)])
    assert await names(pool) == {str(SELLER): 3}
    await anomalies.end(pool, SILENT, but=[])
    assert await names(pool) == {}
    await anomalies.find(pool, [silence()])
    (again,) = await anomalies.untold(pool)
    assert again.first_at == again.last_at


async def test_a_name_is_not_notified_again_after_a_pause(pool: Pool) -> None:
    await anomalies.sight(pool, seen("order.a"))
    await notify(pool)
    await later(pool, LASTS[FIELD] + HOUR)
    await anomalies.clean(pool)
    assert await names(pool) == {}
    await anomalies.sight(pool, seen("order.a"))
    assert await names(pool) == {"order.a": 2}
    assert await anomalies.untold(pool) == []


async def test_nothing_names_an_erased_seller(pool: Pool) -> None:
    await anomalies.sight(pool, seen("order.a"))
    await anomalies.find(pool, [silence()])
    await erasures.begin(pool, SELLER)
    await anomalies.clean(pool)
    assert await names(pool) == {}
    await anomalies.sight(pool, seen("order.b"))
    (found,) = await anomalies.lasting(pool)
    assert (found.name, found.seller_id, found.tid) == ("order.b", None, None)


async def test_answers_with_an_object_are_counted_by_hour(pool: Pool) -> None:
    for is_behind in (True, False, False):
        sightings = Sightings()
        sightings.note_detail(is_behind=is_behind)
        await anomalies.sight(pool, sightings)
    now = await anomalies.now(pool)
    hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    found = await anomalies.detail_hours(pool, [hour - HOUR, hour])
    assert sum(each.answers for each in found.values()) == 3
    assert sum(each.behind for each in found.values()) == 1


async def test_orders_are_counted_by_shop_and_window(pool: Pool) -> None:
    for number, (seller_id, created, source) in enumerate(
        [
            (SELLER, at(0), "push"),
            (SELLER, at(10), "sweep"),
            (SELLER, at(3600), "push"),
            (SELLER, at(-7 * 86400), "bootstrap"),
            (SELLER + 1, at(5), "push"),
        ]
    ):
        await insert_order(pool, number, seller_id, created, source)
    window, week = Span(at(0), at(3600)), Span(at(-7 * 86400), at(-7 * 86400 + 3600))
    both = [SELLER, SELLER + 1, SELLER + 2]
    assert await anomalies.present(pool, both, window) == {
        SELLER: ShopPresent(2, 1, at(-7 * 86400)),
        SELLER + 1: ShopPresent(1, 1, at(5)),
        SELLER + 2: ShopPresent(0, 0, None),
    }
    assert await anomalies.earlier(pool, both, [week, window]) == {
        SELLER: [1, 2],
        SELLER + 1: [0, 1],
        SELLER + 2: [0, 0],
    }
    assert await anomalies.earlier(pool, both, []) == {}


async def insert_order(pool: Pool, number: int, seller_id: int, created: datetime, source: str) -> None:
    await pool.execute(
        "insert into orders (tid, seller_id, created, modified, status, content_hash, fetched_at, source, "
        "trade, revision) values ($1, $2, $3, $3, 'S', '', $3, $4, '{}', 1)",
        TID + number,
        seller_id,
        created,
        source,
    )


async def test_types_that_lists_leave_out_come_from_the_reports(pool: Pool) -> None:
    now = await anomalies.now(pool)
    for id_, began, note in (
        ("new", now - HOUR, "trade type x"),
        ("old", now - 9 * 24 * HOUR, "trade type y"),
    ):
        await comparisons.begin(pool, id_, night=None, at=began)
        await comparisons.add(
            pool,
            id_,
            SELLER,
            Kind.ORDER,
            began.date(),
            [
                Difference(
                    *(SELLER, Kind.ORDER, TID + number, TID + number, began.date(), DifferenceKind.UNLISTED),
                    *(note, DifferenceOutcome.LEFT),
                )
                for number in range(2)
            ],
        )
    (found,) = await anomalies.unlisted(pool, since=now - LASTS[AnomalyKind.UNLISTED_TYPE])
    assert (found.note, found.orders, found.tid) == ("trade type x", 2, TID + 1)
