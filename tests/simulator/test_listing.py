"""List queries answer exactly the visible orders that a scan of all orders finds, page by page."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.simulator.platform_client import START_SECOND, make_world, text
from topsync.simulator.book import OrderBook
from topsync.simulator.director import Director
from topsync.simulator.ids import OrderKey, tid_of
from topsync.simulator.life import EventKind, TradeType
from topsync.simulator.listing import ListResult, Query, TooSlowError, by_created, by_modified
from topsync.simulator.moves import Move
from topsync.simulator.settings import PlatformQuirks
from topsync.simulator.subscriptions import TopicSubscriptions
from topsync.simulator.world import World

ALL = frozenset(TradeType)
DAY = 86400
Find = Callable[[OrderBook, Query, int], ListResult]


def lively_world(seed: int, delay: int = 0) -> World:
    """A world in which a few hundred changes have happened since the start."""
    world = make_world(seed, orders=200, history_days=6, delay=delay)
    director = Director(world, TopicSubscriptions(lambda _: None, world.clock.now), PlatformQuirks(), seed)
    chance = random.Random(seed)
    for _ in range(250):
        director.step()
        if chance.random() < 0.6:
            world.clock.advance(chance.choice([1, 1, 2, 30]))
    return world


def everything(found: ListResult) -> list[int]:
    return found.page(0, found.total)


def scan(world: World, query: Query, key: Callable[[int, list[int]], int | None]) -> list[int]:
    """All orders whose visible state fits, newest first, found by a look at each order."""
    book = world.books[0]
    now = world.clock.second()
    entries = []
    for number in book.numbers():
        live = book._live.get(number)
        times = [event.at for event in book.events(number)]
        if live is not None:
            reached = [i for i, at in enumerate(live.visible_at, live.past + 1) if at <= now]
            times = times[: max(reached, default=live.past)]
        if not times or book.history.plan(number).type not in query.types:
            continue
        at = key(number, times)
        if at is not None and query.first <= at <= query.last:
            entries.append((at, tid_of(OrderKey(0, number)), number))
    return [number for _, _, number in sorted(entries, reverse=True)]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("delay", [0, 400])
def test_lists_equal_a_scan_of_every_order(seed: int, delay: int) -> None:
    world = lively_world(seed, delay)
    book, now = world.books[0], world.clock.second()
    chance = random.Random(seed)
    for _ in range(40):
        first = now - chance.choice([10, 300, 1800, DAY, 5 * DAY])
        last = first + chance.choice([0, 30, 1800, DAY])
        types = chance.choice([ALL, frozenset({TradeType.FIXED, TradeType.STEP})])
        query = Query(first, last, types)
        assert everything(by_modified(book, query, now)) == scan(world, query, lambda _, times: times[-1])
        assert everything(by_created(book, query, now)) == scan(world, query, lambda _, times: times[0])


@pytest.mark.parametrize("find", [by_modified, by_created])
@pytest.mark.parametrize("size", [1, 7, 40])
def test_pages_together_are_the_whole_list_and_nothing_twice(find: Find, size: int) -> None:
    world = lively_world(3)
    query = Query(START_SECOND - 3 * DAY, START_SECOND + DAY, ALL)
    found = find(world.books[0], query, world.clock.second())
    assert found.total > 40
    pages = [found.page(offset, size) for offset in range(0, found.total, size)]
    assert [number for page in pages for number in page] == everything(found)
    assert len(set(everything(found))) == found.total
    assert found.page(found.total, size) == []


def test_a_change_is_in_lists_only_when_its_delay_has_passed() -> None:
    world = make_world(orders=50, delay=600)
    book = world.books[0]
    query = Query(START_SECOND, START_SECOND, ALL)
    for number in range(40):
        world.perform(book.seller, number, Move(EventKind.MEMO))
    counts = []
    for _ in range(13):
        counts.append(by_modified(book, query, world.clock.second()).total)
        world.clock.advance(50)
    assert counts == sorted(counts)
    assert counts[0] < 5
    assert counts[-1] == 40
    assert len(set(counts)) > 5


def test_until_then_lists_show_the_old_state_and_details_the_new_state() -> None:
    world = make_world(orders=50, delay=600)
    book = world.books[0]
    delayed = 0
    for number in range(40):
        before = book.history.modified(number)
        world.perform(book.seller, number, Move(EventKind.MEMO))
        assert world.trade(book.seller, number)["modified"] == text(START_SECOND)
        shown = book.shown(number, world.clock.second())
        if shown.modified == before:
            delayed += 1
            query = Query(before, before, ALL)
            assert number in everything(by_modified(book, query, world.clock.second()))
            assert book.events(number)[-1].at == START_SECOND
    assert delayed > 30


def test_arrival_is_when_the_state_became_visible() -> None:
    world = make_world(orders=50, delay=600)
    book = world.books[0]
    for number in range(20):
        world.perform(book.seller, number, Move(EventKind.MEMO))
    world.clock.advance(700)
    arrivals = {book.shown(number, world.clock.second()).arrived - START_SECOND for number in range(20)}
    assert min(arrivals) >= 0
    assert max(arrivals) <= 600
    assert len(arrivals) > 10


def test_modified_never_goes_back_and_two_changes_share_a_second() -> None:
    world = lively_world(5)
    book = world.books[0]
    same_second = 0
    for number in book.numbers():
        times = [event.at for event in book.events(number)]
        assert times == sorted(times)
        same_second += len(times) != len(set(times))
    assert same_second > 5


def test_searching_a_giant_range_by_status_is_refused_as_too_slow() -> None:
    world = make_world(orders=60_000, history_days=20)
    query = Query(0, START_SECOND, ALL, frozenset({"TRADE_FINISHED"}))
    with pytest.raises(TooSlowError):
        by_created(world.books[0], query, START_SECOND)
    with pytest.raises(TooSlowError):
        by_modified(world.books[0], query, START_SECOND)


def test_orders_out_of_reach_are_not_listed() -> None:
    world = make_world(orders=300, history_days=20)
    book = world.books[0]
    border = book.history.created(100)
    for find in (by_created, by_modified):
        found = everything(find(book, Query(0, START_SECOND, ALL, oldest_created=border), START_SECOND))
        assert found
        assert min(book.history.created(number) for number in found) >= border
