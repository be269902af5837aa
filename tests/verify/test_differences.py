"""The comparison with the platform: nothing on the move is a difference, and nothing that differs is missed.

Hypothesis makes histories of objects that change, and chooses when each change shows in lists, and when it
reaches the copy, within the bounds that we allow for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.refund import Refund
from schemas.trade import Trade
from tests.store.databases import at, platform_refund, platform_trade
from topsync.model.copy_state import CopyState
from topsync.model.difference import DifferenceKind
from topsync.model.kind import Kind
from topsync.model.span import Span
from topsync.verify import differences
from topsync.verify.agreement import ShownObject
from topsync.verify.differences import Conclusion, Doubt, Doubtful, InFull, ListedState
from topsync.verify.views import AuditedKind

VISIBLE_WITHIN, COPIED_WITHIN = 30, 20
PAUSE = VISIBLE_WITHIN + COPIED_WITHIN
DAY = range(1000)
"""The seconds of the day that is compared."""
START = datetime(2026, 11, 1, tzinfo=UTC)
TID = 4000000000000000101

Look = tuple[Mapping[int, ListedState], Mapping[int, CopyState]]


def moment(second: float) -> datetime:
    return START + timedelta(seconds=second)


@dataclass(frozen=True)
class Happened:
    """A change of an object."""

    at: int
    listed_after: int
    copied_after: int | None
    """None: the copy never hears of it."""


@dataclass(frozen=True)
class History:
    """An object of the platform, and our copy of it."""

    id: int
    changes: tuple[Happened, ...]
    """At different seconds, in order; the first is its creation. None: only the copy has it."""
    is_listed: bool = True
    is_known: bool = True
    """Whether the platform shows it in full."""

    def true_at(self, second: int) -> int | None:
        return max((each.at for each in self.changes if each.at <= second), default=None)

    def listed_at(self, second: int) -> int | None:
        shown = [each.at for each in self.changes if each.at + each.listed_after <= second]
        return max(shown, default=None) if self.is_listed and self.is_known else None

    def copied_at(self, second: int) -> int | None:
        had = [
            each.at
            for each in self.changes
            if each.copied_after is not None and each.at + each.copied_after <= second
        ]
        return max(had, default=None)

    @property
    def created(self) -> int:
        return self.changes[0].at


@dataclass(frozen=True)
class World:
    """A seller's objects; whether they are listed by their creation, or by their latest change."""

    histories: tuple[History, ...]
    by_change: bool

    def look(self, second: int) -> Look:
        """What list and table show of the day, the table also of what is listed."""
        listed = {
            each.id: ListedState(moment(shown), created=moment(each.created), tid=each.id)
            for each in self.histories
            if (shown := each.listed_at(second)) is not None and self._is_of_day(each, shown)
        }
        copies = {
            each.id: self.row(each, had)
            for each in self.histories
            if (had := each.copied_at(second)) is not None
            and (self._is_of_day(each, had) or each.id in listed)
        }
        return listed, copies

    def _is_of_day(self, history: History, changed: int) -> bool:
        return (changed if self.by_change else history.created) in DAY

    @staticmethod
    def row(history: History, changed: int) -> CopyState:
        return CopyState(history.id, moment(history.created), moment(changed), "S", changed, True)

    def in_full(self, id_: int, second: int, *, settled_before: int) -> Conclusion | InFull:
        """What the object in full says; the row has been read at the same moment."""
        (history,) = [each for each in self.histories if each.id == id_]
        shown, had = history.true_at(second), history.copied_at(second)
        if not history.is_known or shown is None:
            return InFull.NOT_THERE
        if had is None or shown >= settled_before:
            return InFull.MOVING
        return Conclusion(DifferenceKind.BEHIND, "") if shown > had else InFull.SAME

    def compared(self, first_at: int, second_at: int) -> dict[int, DifferenceKind]:
        """What a comparison names that begins at `first_at` and looks again at `second_at`."""
        candidates = list(differences.first_look(*self.look(first_at)))
        listed, _ = self.look(second_at)
        ids = {each.id for each in candidates}
        copies = {
            each.id: self.row(each, had)
            for each in self.histories
            if each.id in ids and (had := each.copied_at(second_at)) is not None
        }
        found = {}
        for each in differences.second_look(candidates, listed, copies):
            how = self.in_full(each.id, second_at, settled_before=first_at)
            if (finding := differences.conclusion(each.doubt, how)) is not None:
                found[each.id] = finding.what
        return found


@st.composite
def moving(draw: st.DrawFn, *, until: int) -> tuple[Happened, ...]:
    """Changes up to a second, all of which arrive in time."""
    moments = sorted(draw(st.sets(st.integers(0, until), min_size=1, max_size=5)))
    return tuple(
        Happened(
            second, draw(st.integers(0, VISIBLE_WITHIN)), draw(st.integers(0, VISIBLE_WITHIN + COPIED_WITHIN))
        )
        for second in moments
    )


@st.composite
def worlds(draw: st.DrawFn, *, until: int) -> World:
    return World(
        tuple(History(number, draw(moving(until=until))) for number in range(1, draw(st.integers(2, 8)))),
        draw(st.booleans()),
    )


@given(worlds(until=1300), st.integers(0, 1300), st.integers(PAUSE, 3 * PAUSE))
def test_nothing_that_arrives_within_the_pause_is_a_difference(
    world: World, first_at: int, pause: int
) -> None:
    assert world.compared(first_at, first_at + pause) == {}


def test_without_the_second_look_what_is_on_the_move_would_be_a_difference() -> None:
    on_the_move = World((History(1, (Happened(10, 0, 40),)),), by_change=False)
    assert [each.doubt for each in differences.first_look(*on_the_move.look(20))] == [Doubt.MISSING]
    assert on_the_move.compared(20, 20 + PAUSE) == {}


def test_a_pause_that_is_too_short_reports_what_is_on_the_move() -> None:
    on_the_move = World((History(1, (Happened(10, 0, PAUSE),)),), by_change=False)
    assert on_the_move.compared(20, 30) == {1: DifferenceKind.MISSING}


@st.composite
def wrong(draw: st.DrawFn) -> tuple[World, set[int]]:
    """A world at rest of which the copy has some wrong, and their ids."""
    world, broken = draw(worlds(until=1300)), set()
    histories = []
    for each in world.histories:
        fault = draw(st.sampled_from(["none", "none", "lost", "unknown", "unlisted"]))
        if fault == "lost":
            lost_from = draw(st.integers(0, len(each.changes) - 1))
            each = replace(
                each,
                changes=tuple(
                    replace(change, copied_after=None) if number >= lost_from else change
                    for number, change in enumerate(each.changes)
                ),
            )
        elif fault != "none":
            each = replace(each, is_known=fault != "unknown", is_listed=fault != "unlisted")
        if fault != "none":
            broken.add(each.id)
        histories.append(each)
    return replace(world, histories=tuple(histories)), broken


@given(wrong())
def test_whatever_differs_at_rest_is_named_with_its_kind_and_nothing_else_is(
    made: tuple[World, set[int]],
) -> None:
    world, _ = made
    first_at = 1300 + PAUSE + 1
    found = world.compared(first_at, first_at + PAUSE)
    for each in world.histories:
        true, had = each.true_at(first_at), each.copied_at(first_at)
        days = (true, had) if world.by_change else (each.created, each.created)
        seen_by_list = each.is_known and each.is_listed and days[0] in DAY
        seen_by_us = had is not None and days[1] in DAY
        expected = None
        if not each.is_known:
            expected = DifferenceKind.UNKNOWN if seen_by_us else None
        elif had is None:
            expected = DifferenceKind.MISSING if seen_by_list else None
        elif had != true:
            expected = DifferenceKind.BEHIND if seen_by_list or seen_by_us else None
        elif not each.is_listed:
            expected = DifferenceKind.UNLISTED if seen_by_us else None
        assert found.get(each.id) == expected


def listed(modified: float | None, status: str | None = "S") -> ListedState:
    return ListedState(None if modified is None else moment(modified), status, moment(0))


def copied(modified: float, **changes: object) -> CopyState:
    return replace(CopyState(1, moment(0), moment(modified), "S", 3, True), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "copy", "expected"),
    [
        pytest.param(listed(5), copied(5), None, id="equal"),
        pytest.param(listed(5), copied(9), None, id="what the copy has newer than the list is none"),
        pytest.param(listed(5), None, Doubt.MISSING, id="missing"),
        pytest.param(listed(5), copied(4), Doubt.BEHIND, id="behind"),
        pytest.param(listed(5, "T"), copied(5), Doubt.OTHER, id="another status of the same second"),
        pytest.param(listed(5, "T"), copied(6), None, id="a status of an older state says nothing"),
        pytest.param(listed(5, None), copied(5), None, id="lists may leave the status out"),
        pytest.param(listed(None), copied(5), None, id="a time ahead of now promises nothing"),
        pytest.param(listed(None), None, Doubt.MISSING, id="but it says that the order is there"),
        pytest.param(listed(5), copied(5, is_published=False), Doubt.UNPUBLISHED, id="not published"),
        pytest.param(None, copied(5), Doubt.UNLISTED, id="unlisted"),
        pytest.param(None, None, None, id="gone from both"),
    ],
)
def test_why_something_seems_to_differ(
    state: ListedState | None, copy: CopyState | None, expected: Doubt | None
) -> None:
    assert differences.doubt(state, copy) is expected


@pytest.mark.parametrize("copy", [copied(4, revision=4), copied(4, is_published=False), None])
def test_a_row_that_has_moved_between_the_looks_is_no_difference(copy: CopyState | None) -> None:
    before = Doubtful(1, Doubt.BEHIND, listed(5), copied(4))
    copies = {} if copy is None else {1: copy}
    assert list(differences.second_look([before], {1: listed(5)}, copies)) == []


def shown(kind: Kind, platform: Mapping[str, object]) -> ShownObject:
    model = Trade if kind.leads else Refund
    return AuditedKind(kind).of_detail(model.read(platform))


def trade(modified: float = 0, **fields: object) -> ShownObject:
    return shown(Kind.ORDER, platform_trade(TID, modified, **fields))


def refund(modified: float = 0, **fields: object) -> ShownObject:
    return shown(Kind.REFUND, platform_refund(7, TID, modified, **fields))


LINE = {"orders": {"order": [{"oid": TID, "payment": "185.99"}]}}


@pytest.mark.parametrize(
    ("model", "truth", "copy", "expected"),
    [
        pytest.param(Trade, trade(5), trade(5), InFull.SAME, id="the same"),
        pytest.param(
            Trade,
            trade(5),
            trade(5, payment="186.01"),
            Conclusion(DifferenceKind.SUM, "payment"),
            id="a cent",
        ),
        pytest.param(
            Trade,
            trade(5),
            trade(5, **LINE),
            Conclusion(DifferenceKind.SUM, "orders.payment"),
            id="of a line",
        ),
        pytest.param(
            Refund,
            refund(5, refund_fee="1.00"),
            refund(5, refund_fee="0.99"),
            Conclusion(DifferenceKind.SUM, "refund_fee"),
            id="of a refund",
        ),
        pytest.param(
            Trade,
            trade(5, status="TRADE_CLOSED"),
            trade(5),
            Conclusion(DifferenceKind.BEHIND, "status"),
            id="another state of the same second",
        ),
        pytest.param(
            Trade,
            trade(6, payment="1.00"),
            trade(5),
            Conclusion(DifferenceKind.BEHIND, "modified, payment"),
            id="an older state",
        ),
        pytest.param(Trade, trade(4), trade(5), InFull.SAME, id="the copy is newer"),
        pytest.param(Trade, trade(60), trade(5), InFull.MOVING, id="changed since the first look"),
    ],
)
def test_what_differs_in_full_is_named_by_its_fields(
    model: type[Trade | Refund], truth: ShownObject, copy: ShownObject, expected: Conclusion | InFull
) -> None:
    assert differences.finding(model, truth, copy, settled_before=at(60)) == expected


def test_every_amount_of_the_contract_counts_as_money() -> None:
    assert {"payment", "post_fee", "orders.divide_order_fee"} <= differences.money_names(Trade)
    assert differences.money_names(Refund) == {"refund_fee", "payment", "total_fee", "price"}
    assert "orders" not in differences.money_names(Trade)


def candidate(second: float) -> Doubtful:
    return Doubtful(int(second), Doubt.MISSING, ListedState(moment(second), created=moment(second)), None)


@given(st.lists(st.integers(0, 86399), max_size=40), st.integers(1, 20))
def test_the_second_look_lists_few_windows_that_hold_every_candidate(seconds: list[int], most: int) -> None:
    day = Span(moment(0), moment(86400))
    found = differences.windows(
        map(candidate, seconds), day, joined_within=timedelta(minutes=10), at_most=most
    )
    assert len(found) <= most
    assert all(any(span.start <= moment(second) <= span.end for span in found) for second in seconds)


def test_what_was_not_asked_for_in_full_is_named_all_the_same() -> None:
    concluded: Callable[[Doubt], Conclusion | None] = lambda doubt: differences.conclusion(doubt, None)  # noqa: E731
    assert concluded(Doubt.UNLISTED) == Conclusion(DifferenceKind.UNLISTED, differences.NOT_ASKED)
    assert concluded(Doubt.OTHER) == Conclusion(DifferenceKind.BEHIND, "status")
    assert concluded(Doubt.BEHIND) == Conclusion(DifferenceKind.BEHIND, "")
    assert concluded(Doubt.UNPUBLISHED) == Conclusion(DifferenceKind.BEHIND, differences.NOT_PUBLISHED)


def test_only_the_object_in_full_says_that_a_status_differs_as_lists_may_be_wrong() -> None:
    others: Sequence[InFull] = (InFull.SAME, InFull.MOVING, InFull.NOT_THERE, InFull.UNREADABLE)
    assert [differences.conclusion(Doubt.OTHER, how) for how in others] == [None] * 4
