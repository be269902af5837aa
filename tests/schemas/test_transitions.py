"""Which transitions a step between two states reports: nobody may miss a transition or get it twice."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import content, delta, transitions
from schemas.change import Source
from schemas.delta import Declaration, Delta, TransitionWord, join
from schemas.trade import MASKED_FIELDS, PLACE_FIELDS, Trade
from schemas.transitions import Order, Transition
from tests.schemas import samples
from tests.simulator.platform_client import make_world
from topsync.simulator.life import EventKind, OrderState, TradeType, fold
from topsync.simulator.trades import full_trade
from topsync.simulator.world import World

AGAIN = {Transition.ADDRESS_CHANGED, Transition.PARTLY_REFUNDED, Transition.UPDATED, Transition.CORRECTED}
ONCE = frozenset(Transition) - AGAIN
STEPS_PER_LIFE = 14
MOVES_OF = {
    Transition.CREATED: {EventKind.CREATE},
    Transition.ADDRESS_CHANGED: {EventKind.ADDRESS},
    Transition.DEPOSIT_PAID: {EventKind.PAY_DEPOSIT},
    Transition.REST_PAID: {EventKind.PAY},
    Transition.PAID: {EventKind.CREATE, EventKind.PAY},  # with cash on delivery the seller can ship at once
    # By the last line, or when the last unshipped line is refunded; goods without a parcel at once.
    Transition.SHIPPED: {EventKind.SHIP, EventKind.SHIP_LINE, EventKind.REFUND_SUCCESS, EventKind.PAY},
    Transition.PARTLY_REFUNDED: {EventKind.REFUND_SUCCESS},
    Transition.FINISHED: {EventKind.FINISH},
    Transition.CLOSED: {EventKind.CLOSE_UNPAID, EventKind.REFUND_SUCCESS},
}


@cache
def base_world() -> World:
    return make_world(orders=600, history_days=30)


@cache
def base_lives() -> list[list[Order]]:
    """Every order of a small world, with the state after each of its events."""
    world = base_world()
    book = world.books[0]
    lives = []
    for number in book.numbers():
        draft, events = book.draft(number), book.events(number)
        states = [fold(draft.type, len(draft.lines), events[: count + 1]) for count in range(len(events))]
        lives.append([written(world, number, state) for state in states])
    return lives


def written(world: World, number: int, state: OrderState) -> Order:
    book = world.books[0]
    return wired(full_trade(book.seller, book.draft(number), state))


def wired(platform_trade: dict[str, Any]) -> Order:
    """The order as it is on the wire."""
    order: Order = orjson.loads(Trade.from_platform(platform_trade).to_wire())
    return order


@cache
def wandering_life(type_: TradeType, seed: int) -> list[tuple[EventKind, Order]]:
    """A new order with random possible moves, and the state after each."""
    chance = random.Random(seed)
    world = make_world(orders=0)
    seller = world.books[0].seller
    world.create(seller, type_, min_lines=1 + seed % 3 if type_ is TradeType.FIXED else 1)
    number = next(iter(world.books[0].numbers()))
    life = [(EventKind.CREATE, wired(world.trade(seller, number)))]
    for _ in range(STEPS_PER_LIFE):
        move = chance.choice(world.possible(seller, number))
        world.perform(seller, number, move)
        life.append((move.kind, wired(world.trade(seller, number))))
    return life


def steps_of(life: Sequence[Order], source: Source = Source.PUSH) -> list[Delta[Transition]]:
    """The steps of a life as subscribers read them."""
    first = transitions.step(None, life[0], source)
    return [first, *(transitions.step(before, after, source) for before, after in pairwise(life))]


def counted(steps: Sequence[Delta[Transition]]) -> Counter[Transition]:
    return Counter(word for step in steps for word in step.transitions)


lives = st.one_of(
    st.builds(lambda n: base_lives()[n % len(base_lives())], st.integers(0, 599)),
    st.builds(
        lambda type_, seed: [trade for _, trade in wandering_life(type_, seed)],
        st.sampled_from(sorted(TradeType)),
        st.integers(0, 23),
    ),
)


def test_each_transition_of_every_life_is_reported_when_it_happens_and_once() -> None:
    seen: Counter[Transition] = Counter()
    for type_ in TradeType:
        for seed in range(24):
            life = wandering_life(type_, seed)
            steps = steps_of([trade for _, trade in life])
            for (kind, _), step in zip(life, steps, strict=True):
                for word in set(step.transitions) - {Transition.UPDATED}:
                    assert kind in MOVES_OF[word], (type_, seed, kind, step)
            assert all(counted(steps)[word] <= 1 for word in ONCE)
            seen += counted(steps)
    assert set(seen) == set(Transition) - {Transition.CORRECTED}, "each of them occurs"


def expected(kind: EventKind, type_: TradeType, after: Order) -> set[Transition]:
    """The words that report a move, at least."""
    match kind:
        case EventKind.CREATE if type_ is TradeType.COD:
            return {Transition.CREATED, Transition.PAID}
        case EventKind.PAY if type_ is TradeType.STEP:
            return {Transition.PAID, Transition.REST_PAID}
        case EventKind.REFUND_SUCCESS if after["status"] == "TRADE_CLOSED":
            return {Transition.CLOSED}
    return {
        EventKind.CREATE: {Transition.CREATED},
        EventKind.PAY: {Transition.PAID},
        EventKind.PAY_DEPOSIT: {Transition.DEPOSIT_PAID},
        EventKind.SHIP: {Transition.SHIPPED},
        EventKind.FINISH: {Transition.FINISHED},
        EventKind.CLOSE_UNPAID: {Transition.CLOSED},
        EventKind.REFUND_SUCCESS: {Transition.PARTLY_REFUNDED},
        EventKind.SHIP_LINE: set(),
        EventKind.ADDRESS: set(),  # see below: another street in the same place shows nothing
    }.get(kind, {Transition.UPDATED})


def test_each_move_that_others_act_on_is_reported_as_what_it_is() -> None:
    for type_ in TradeType:
        for seed in range(24):
            life = wandering_life(type_, seed)
            for (kind, after), step in zip(life, steps_of([trade for _, trade in life]), strict=True):
                assert expected(kind, type_, after) <= set(step.transitions), (type_, seed, kind)


@given(life=lives, data=st.data())
@settings(max_examples=100)
def test_a_step_over_missed_states_reports_everything_that_an_open_order_went_through(
    life: list[Order], data: st.DataObject
) -> None:
    """A state may be skipped: pushed together, fetched late, or found after a gap."""
    kept = [*data.draw(st.sets(st.integers(0, len(life) - 1)).map(sorted)), len(life) - 1]
    fewer = [life[position] for position in dict.fromkeys(kept)]
    everything, less = counted(steps_of(life)), counted(steps_of(fewer))
    assert all(less[word] <= everything[word] for word in ONCE), "nothing is made up"
    if Transition.CLOSED not in everything:
        assert all(less[word] == everything[word] for word in ONCE), "nothing is lost"
    assert less[Transition.CLOSED] == everything[Transition.CLOSED]


@given(life=lives, data=st.data())
@settings(max_examples=60)
def test_steps_that_were_never_published_are_reported_with_the_next_step(
    life: list[Order], data: st.DataObject
) -> None:
    steps = steps_of(life)
    cut = data.draw(st.integers(0, len(steps) - 1))
    joined = steps[0]
    for step in steps[1 : cut + 1]:
        joined = join(joined, step)
    assert set(joined.transitions) - {Transition.UPDATED} == set(counted(steps[: cut + 1])) - {
        Transition.UPDATED
    }
    assert joined.status_from is None
    assert joined.changed == ()
    if len(steps) > 2:
        later = join(steps[1], steps[2])
        assert later.status_from == life[0]["status"]
        assert set(later.changed) == {*steps[1].changed, *steps[2].changed}


trades = st.one_of(
    lives.flatmap(st.sampled_from), st.sampled_from([wired(trade) for _, trade in samples.all_trades()])
)


@given(before=st.none() | trades, after=trades, source=st.sampled_from(Source))
@settings(max_examples=100)
def test_every_pair_of_states_has_an_answer_even_a_step_back(
    before: Order | None, after: Order, source: Source
) -> None:
    step = transitions.step(before, after, source)
    assert step.transitions
    assert list(step.transitions) == sorted(set(step.transitions), key=lambda word: word.rank)
    assert step.main in step.transitions
    assert (Transition.CREATED in step.transitions) == (before is None)
    assert (step.status_from is None) == (before is None)


@pytest.mark.parametrize("source", Source)
def test_a_step_that_reconciliation_found_is_marked_and_still_has_its_words(source: Source) -> None:
    """A subscriber that waits for `paid` must also get orders whose message was lost."""
    reconciled = source in (Source.GAP, Source.OPERATOR, Source.SWEEP)
    life = [trade for _, trade in wandering_life(TradeType.FIXED, 0)]
    for by_push, found in zip(steps_of(life), steps_of(life, source), strict=True):
        assert (Transition.CORRECTED in found.transitions) == reconciled
        if by_push.transitions == (Transition.UPDATED,) and reconciled:
            assert found.main is Transition.CORRECTED
            assert found.transitions == (Transition.CORRECTED,)
        else:
            assert found.main is by_push.main
            assert set(by_push.transitions) <= set(found.transitions)


@given(life=lives.filter(lambda life: len(life) > 1), data=st.data())
@settings(max_examples=60)
def test_changed_names_exactly_the_fields_that_differ(life: list[Order], data: st.DataObject) -> None:
    at = data.draw(st.integers(1, len(life) - 1))
    before, after = life[at - 1], life[at]
    changed = transitions.step(before, after, Source.PUSH).changed
    assert {name for name in changed if "." not in name} - {"orders"} == {
        name
        for name in before.keys() | after.keys()
        if name not in ("orders", "modified") and before.get(name) != after.get(name)
    }
    assert {name for name in changed if "." in name} == {
        f"orders.{name}"
        for line, other in zip(before["orders"], after["orders"], strict=True)
        for name in line.keys() | other.keys()
        if line.get(name) != other.get(name)
    }


def test_a_deposit_never_counts_as_the_payment() -> None:
    """`step_trade_status` exists so that nobody ships after the deposit alone."""
    presale = wired({**samples.complete(samples.PRESALE), "pay_time": "2025-11-20 10:00:00"})
    waiting = {**presale, "status": "WAIT_BUYER_PAY", "step_trade_status": "FRONT_PAID_FINAL_NOPAID"}
    assert Transition.PAID not in transitions.step(None, waiting, Source.PUSH).transitions
    forfeited = {**waiting, "status": "TRADE_CLOSED", "step_trade_status": "FRONT_PAID_FRONT_FORFEITED"}
    assert transitions.step(waiting, forfeited, Source.PUSH).transitions == (Transition.CLOSED,)
    assert Transition.PAID not in transitions.step(None, forfeited, Source.PUSH).transitions


def test_a_time_of_payment_alone_makes_no_open_order_paid() -> None:
    order = {**wired(samples.complete(samples.FULL)), "status": "WAIT_BUYER_PAY"}
    assert "pay_time" in order
    assert Transition.PAID not in transitions.step(None, order, Source.PUSH).transitions
    closed = {**order, "status": "TRADE_CLOSED"}
    assert Transition.PAID in transitions.step(None, closed, Source.PUSH).transitions


def test_the_refund_that_closes_an_order_is_reported_as_its_end() -> None:
    order = wired(samples.complete(samples.FULL))
    refunded = [{**line, "refund_status": "SUCCESS"} for line in order["orders"]]
    closed = {**order, "orders": refunded, "status": "TRADE_CLOSED"}
    assert transitions.step(order, closed, Source.PUSH).transitions == (Transition.CLOSED,)
    assert Transition.PARTLY_REFUNDED not in transitions.step(None, closed, Source.PUSH).transitions


def test_lines_that_come_or_go_are_named() -> None:
    order = wired(samples.complete(samples.FULL))
    fewer = {**order, "orders": order["orders"][:1]}
    assert "orders" in transitions.step(fewer, order, Source.PUSH).changed


# The address.

ORDER = wired(samples.complete(samples.FULL))
TO_SHIP = {**ORDER, "status": "WAIT_SELLER_SEND_GOODS"}
ELSEWHERE = {"receiver_city": "宁波市", "receiver_district": "海曙区"}


def is_sent_elsewhere(before: Order | None, after: Order) -> bool:
    return Transition.ADDRESS_CHANGED in transitions.step(before, after, Source.PUSH).transitions


def marked(order: Order, **marks: str) -> Order:
    return {**order, "platform_fields": {**order["platform_fields"], **marks}}


def line_marked(order: Order, mark: str) -> Order:
    first, *others = order["orders"]
    return {**order, "orders": [marked(first, modify_address=mark), *others]}


def test_a_change_of_address_is_reported_whenever_the_platform_shows_it() -> None:
    """If the order is paid, the first change is marked. Each second change is to another place."""
    changes = 0
    for type_ in TradeType:
        for seed in range(24):
            life = wandering_life(type_, seed)
            address = 0
            for (kind, _), step in zip(life, steps_of([trade for _, trade in life]), strict=True):
                address += kind is EventKind.ADDRESS
                is_shown = address % 2 == 0 or (address == 1 and type_ is not TradeType.COD)
                is_reported = Transition.ADDRESS_CHANGED in step.transitions
                assert is_reported == (kind is EventKind.ADDRESS and is_shown), (type_, seed, address)
                changes += is_reported
    assert changes > 10


@given(masked=st.dictionaries(st.sampled_from(sorted(MASKED_FIELDS)), st.none() | st.text(max_size=20)))
def test_another_masking_alone_is_no_other_address_and_no_version(
    masked: dict[str, str | None],
) -> None:
    again = {name: value for name, value in {**TO_SHIP, **masked}.items() if value is not None}
    assert transitions.step(TO_SHIP, again, Source.PUSH).transitions == (Transition.UPDATED,)
    assert content.says_no_more(Trade, again, TO_SHIP)
    elsewhere = {**again, **ELSEWHERE}
    assert is_sent_elsewhere(TO_SHIP, elsewhere)
    assert not content.says_no_more(Trade, elsewhere, TO_SHIP)


@pytest.mark.parametrize("name", sorted(PLACE_FIELDS))
def test_another_part_of_the_place_is_another_address_but_a_part_that_comes_or_goes_is_not(name: str) -> None:
    without = {field: value for field, value in TO_SHIP.items() if field != name}
    here, empty, there = ({**TO_SHIP, name: value} for value in ("示例地", "", "另一地"))
    assert is_sent_elsewhere(here, there)
    for gone in (without, empty):
        assert not is_sent_elsewhere(gone, here)
        assert not is_sent_elsewhere(here, gone)


def test_the_platforms_marks_for_a_changed_address_are_believed_when_they_come() -> None:
    for with_mark in (marked(TO_SHIP, lm="1"), line_marked(TO_SHIP, "1"), line_marked(TO_SHIP, "2")):
        assert is_sent_elsewhere(TO_SHIP, with_mark)
        assert not is_sent_elsewhere(with_mark, with_mark)
        assert not is_sent_elsewhere(with_mark, TO_SHIP)
    assert is_sent_elsewhere(line_marked(TO_SHIP, "2"), line_marked(TO_SHIP, "1")), (
        "before, and after payment"
    )


@pytest.mark.parametrize(
    ("before", "after", "is_reported"),
    [
        pytest.param("WAIT_BUYER_PAY", "WAIT_BUYER_PAY", True, id="not paid yet"),
        pytest.param("WAIT_BUYER_PAY", "WAIT_SELLER_SEND_GOODS", True, id="together with the payment"),
        pytest.param("SELLER_CONSIGNED_PART", "SELLER_CONSIGNED_PART", True, id="shipped in part"),
        pytest.param("WAIT_SELLER_SEND_GOODS", "WAIT_BUYER_CONFIRM_GOODS", True, id="seen when shipped"),
        pytest.param("WAIT_BUYER_CONFIRM_GOODS", "WAIT_BUYER_CONFIRM_GOODS", False, id="shipped"),
        pytest.param("WAIT_SELLER_SEND_GOODS", "TRADE_CLOSED", False, id="closed"),
        pytest.param(None, "WAIT_SELLER_SEND_GOODS", False, id="new"),
    ],
)
def test_another_address_counts_until_the_order_is_shipped_and_stronger_words_name_the_event(
    before: str | None, after: str, is_reported: bool
) -> None:
    then = None if before is None else {**ORDER, "status": before}
    step = transitions.step(then, {**ORDER, **ELSEWHERE, "status": after}, Source.PUSH)
    assert (Transition.ADDRESS_CHANGED in step.transitions) == is_reported
    others = set(step.transitions) - {Transition.ADDRESS_CHANGED}
    assert step.main in (others or {Transition.ADDRESS_CHANGED})


FORMER = (
    *("created", "deposit-paid", "paid", "rest-paid", "shipped", "partly-refunded", "finished", "closed"),
)
"""The words that were published first, by rising rank: the last of several names the event's type."""

ADDED = sorted(set(Transition) - {*FORMER, "updated", "corrected"})


@given(
    words=st.sets(st.sampled_from(FORMER), min_size=1),
    more=st.sets(st.sampled_from(["corrected", *ADDED])),
)
def test_no_word_that_is_added_changes_the_types_of_the_events_before_it(
    words: set[str], more: set[str]
) -> None:
    step = Delta(Transition.by_rank(words | more), None, ())
    happened = [word for word in FORMER if word in words]
    assert step.main == happened[-1]
    assert [word for word in step.words if word in FORMER] == happened


def test_corrected_comes_last_and_updated_comes_only_without_other_words() -> None:
    for other in set(Transition) - {Transition.UPDATED, Transition.CORRECTED}:
        step = Delta(Transition.by_rank(["corrected", "updated", other]), None, ())
        assert (step.main, step.words[-1]) == (other, "corrected")


def test_the_position_of_a_word_in_the_code_does_not_matter_and_no_two_words_have_the_same_rank() -> None:
    def declared(word: str, rank: int) -> Declaration:
        return Declaration(word, rank, about="", shown=delta.never)

    class Words(TransitionWord):
        LATE = declared("late", 2)
        EARLY = declared("early", 1)

    assert Delta(Words.by_rank(["late", "early"]), None, ()).main is Words.LATE
    assert Words.by_rank(["late", "unheard-of", "early", "late"]) == (Words.EARLY, Words.LATE)
    with pytest.raises(ValueError, match="again: another word has the rank 1"):

        class Doubled(TransitionWord):
            ONCE = declared("once", 1)
            AGAIN = declared("again", 1)
