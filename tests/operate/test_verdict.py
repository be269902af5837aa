"""The first sentence of the status can be read out, and hides nothing that needs a person (P5)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import platform_time
from tests.support.calendars import calendar_of
from topsync.model.anomaly import Anomaly, AnomalyKind
from topsync.model.call_limits import CallLimits
from topsync.model.gap import Gap
from topsync.model.scheme import Scheme
from topsync.model.span import Span
from topsync.operate import findings, overview_tables, verdict
from topsync.operate.findings import Severity
from topsync.operate.overview import EnricherGroup, Overview
from topsync.operate.pulling_status import Because, SweepStatus, VisibilityStatus
from topsync.operate.trends import Trend
from topsync.sellers.status import SellerStatus
from topsync.store.activity import Process
from topsync.store.call_budget import Ban
from topsync.store.push_connections import PushConnection
from topsync.store.sellers import UNKNOWN, Seller, SellerState
from topsync.store.standings import BulkStart, OpenLetters, WaitingOrders

NOW = platform_time.parse("2026-11-20 14:00:00")
FIRST = 2000000001
MOST = timedelta(hours=2)
USUAL = VisibilityStatus(timedelta(seconds=600), Because.USUAL, timedelta(seconds=600))


def ago(**some: float) -> datetime:
    return NOW - timedelta(**some)


def seller(
    number: int = 1,
    state: SellerState = SellerState.LIVE,
    *,
    complete: datetime | None = ago(seconds=5),  # noqa: B008 -- a value that never changes
    since: datetime = ago(days=3),  # noqa: B008
    reason: str | None = None,
    parked: int = 0,
    holes: int = 0,
) -> SellerStatus:
    who = Seller(
        seller_id=2000000000 + number,
        nick=f"示例卖家{number:04}",
        session_cipher=b"",
        state=state,
        version=1,
        life=UNKNOWN,
        refused_at=None,
        reason=reason,
        since=since,
        replay_due=False,
        refresh_attempts=0,
        refresh_allowed=False,
        refresh_under_way=False,
    )
    hole = Span(ago(hours=2), ago(hours=1))
    return SellerStatus(who, None, complete, [hole] * holes, [], 0, parked, frozenset(), proven_to=complete)


def fine(*sellers: SellerStatus) -> Overview:
    """An installation with nothing to say about."""
    return Overview(
        processes=[Process(name, "host/1", ago(days=1)) for name in ("push", "enrich", "reconcile")],
        push=[PushConnection(id=None, channel_group="default", connected_at=ago(days=1), last_proof_at=NOW)],  # type: ignore[arg-type]
        last_push=None,
        enrichers=EnricherGroup("enrich", 1, {"changes": 0}),
        kafka_problem=None,
        waiting=[],
        letters=[],
        bulk_starts=[],
        limits=CallLimits(),
        spent_today=0,
        bans=[],
        circuits=[],
        calendar=calendar_of(),
        calendar_problem=None,
        visibility=USUAL,
        sweeps=None,
        calls={},
        lost=[],
        republication=None,
        sellers=sellers or (seller(),),
        scheme=Scheme.THREE,
        poll_interval=timedelta(seconds=180),
        polls_are_late_after=timedelta(minutes=20),
        sweeps_are_late_after=timedelta(minutes=25),
        push_is_needed=True,
        now=NOW,
    )


def said(seen: Overview) -> str:
    return verdict.of(seen, findings.of(seen))


def test_where_nothing_is_wrong_it_says_only_how_far_everything_is_complete() -> None:
    seen = fine(seller(1), seller(2, complete=ago(minutes=11)))
    assert said(seen) == "complete up to 11 min ago"
    assert findings.of(seen) == []
    assert not findings.needs_a_person(findings.of(seen))


def test_the_sentence_of_the_issue() -> None:
    expired = seller(2, SellerState.EXPIRED, complete=ago(hours=3), since=ago(seconds=14))
    seen = fine(seller(1), expired)
    assert said(seen) == (
        "complete up to 5 s ago, but for 示例卖家0002: session refused since 13:59:46; run "
        "`topsync sellers authorise 2000000002`"
    )
    assert findings.needs_a_person(findings.of(seen))


def test_three_sellers_are_named_and_the_others_counted() -> None:
    away = [seller(number, SellerState.PAUSED, reason="a holiday") for number in range(1, 6)]
    text = said(fine(seller(9), *away))
    assert [f"示例卖家{number:04}" in text for number in range(1, 6)] == [True] * 3 + [False] * 2
    assert text.endswith(", and for 2 more sellers (below)")


def test_what_concerns_everybody_is_said_as_well() -> None:
    seen = replace(fine(), processes=[], push=[], kafka_problem="it does not answer")
    text = said(seen)
    assert text.startswith(
        "complete up to 5 s ago; but no process of `topsync push` is running, so no message"
    )
    assert text.endswith("; 2 more (below)")


def test_sellers_without_a_bulk_start_are_no_part_of_what_is_complete() -> None:
    new = seller(2, SellerState.NEW, complete=None)
    assert said(fine(seller(1), new)) == (
        "complete up to 5 s ago, but for 1 seller without a finished bulk start"
    )
    assert said(fine(new)) == "no seller is complete: 1 seller without a finished bulk start"
    assert said(replace(fine(), sellers=())) == ("no seller has been added: run `topsync sellers authorise`")


def test_a_hole_is_never_behind_the_words_complete_up_to() -> None:
    assert said(fine(seller(1, holes=1))).startswith(
        "complete up to 5 s ago (with holes behind that, see below)"
    )


@pytest.mark.parametrize(
    ("seen", "severity", "words"),
    [
        (replace(fine(), bans=[Ban("app", NOW + timedelta(minutes=5))]), Severity.BEHIND, "for 5 min more"),
        (
            replace(fine(), limits=CallLimits(calls_per_day=100, live_reserve=10), spent_today=95),
            Severity.TO_DO,
            "only 5 calls of the day, for live changes alone, are left; see who used them: `topsync budget`",
        ),
        (
            replace(fine(), limits=CallLimits(calls_per_day=100), spent_today=100),
            Severity.TO_DO,
            "no call is left: nothing is fetched until midnight (GMT+8)",
        ),
        (
            replace(fine(), letters=[OpenLetters(FIRST, "refused", 3, ago(hours=1))]),
            Severity.TO_DO,
            "3 orders with an open dead letter for the reason refused since 13:00:00; see `topsync",
        ),
        (
            replace(fine(), trends={"lag in changes": Trend(500, -50.0)}),
            Severity.BEHIND,
            "changes: 500 records unread, falling by 50 a second, through in 10 s",
        ),
        (
            replace(
                fine(),
                waiting=[WaitingOrders(FIRST, "not_there", parked=False, orders=4)],
                trends={"waiting": Trend(4, 1.0)},
            ),
            Severity.BEHIND,
            "4 orders to be asked for again (4 not_there), growing by 1.0 a second",
        ),
        (
            replace(fine(), bulk_starts=[BulkStart(FIRST, ago(hours=2))]),
            Severity.NOTE,
            "1 bulk start under way, the oldest since 12:00:00",
        ),
        (
            fine(
                replace(
                    seller(), open_gaps=[Gap(1, FIRST, ago(minutes=9), None, "lost", ago(minutes=8), None)]
                )
            ),
            Severity.BEHIND,
            "1 gap of 1 seller being closed since 13:51:00; see `topsync gaps`",
        ),
        (
            replace(fine(seller(complete=ago(hours=1))), scheme=Scheme.ONE),
            Severity.HELD_UP,
            "no messages, and no poll has proven anything since 13:00:00",
        ),
        (fine(seller(complete=ago(hours=1))), Severity.BEHIND, "no sweep has proven anything since 13:00:00"),
        (replace(fine(), lost=["the topic orders was deleted"]), Severity.BROKEN, "the topic orders was"),
    ],
)
def test_each_source_says_what_since_when_and_what_to_do(
    seen: Overview, severity: Severity, words: str
) -> None:
    (finding,) = findings.of(seen)
    assert finding.severity is severity
    assert words in finding.text(NOW)


def test_a_moment_of_another_day_has_its_date() -> None:
    assert findings.moment(ago(hours=15), NOW) == "2026-11-19 23:00:00"
    assert findings.moment(ago(hours=13), NOW) == "01:00:00"


@given(
    st.lists(
        st.tuples(st.sampled_from(list(SellerState)), st.none() | st.integers(0, 10**6), st.integers(0, 2)),
        max_size=130,
    )
)
def test_whatever_the_sellers_are_what_needs_a_person_comes_first_and_no_more_than_a_hundred_are_shown(
    drawn: list[tuple[SellerState, int | None, int]],
) -> None:
    sellers = [
        seller(number, state, complete=None if old is None else ago(seconds=old), holes=holes)
        for number, (state, old, holes) in enumerate(drawn, 1)
        if state is not SellerState.ERASED
    ]
    seen = replace(fine(), sellers=sellers)
    found = findings.of(seen)
    assert [finding.severity for finding in found] == sorted(finding.severity for finding in found)
    away = {each.seller.seller_id for each in sellers if each.seller.state in ("paused", "expired")}
    order = [each.seller.seller_id for each in overview_tables.worst_first(seen, found)]
    assert set(order[: len(away)]) == away
    assert len(list(overview_tables.lines(found, seen))) <= overview_tables.MOST_SELLERS + 10
    document = overview_tables.document(seen, found, said(seen))
    assert len(document["sellers"]) == min(100, len(sellers))  # type: ignore[arg-type]
    assert document["sellers_not_shown"] == max(0, len(sellers) - 100)
    assert "\n" not in said(seen)
    assert bool(document["problems"]) is findings.needs_a_person(found)


def test_an_allowance_that_was_learnt_is_said_and_needs_nobody_unless_it_is_too_short() -> None:
    learned = replace(
        USUAL, because=Because.LEARNED, allowance=timedelta(seconds=1500), since=ago(hours=2), most=MOST
    )
    (finding,) = findings.of(replace(fine(), visibility=learned))
    assert finding.text(NOW) == (
        "lists were late: the visibility allowance is 1500 s instead of 600 s since 12:00:00, it comes down "
        "by itself"
    )
    assert not finding.severity.needs_a_person
    too_short = replace(USUAL, longest=MOST + timedelta(minutes=1), most=MOST)
    (finding,) = findings.of(replace(fine(), visibility=too_short))
    assert finding.what == (
        "lists were later (2 h 1 min) than the longest visibility allowance that may be learnt (2 h)"
    )
    assert finding.severity.needs_a_person
    on_sale = replace(USUAL, because=Because.CALENDAR, allowance=timedelta(seconds=1500))
    assert findings.of(replace(fine(), visibility=on_sale)) == []


def test_stretched_sweeps_are_said_unless_no_reconciler_runs() -> None:
    wanted = timedelta(minutes=5)
    assert findings.of(replace(fine(), sweeps=SweepStatus(wanted, wanted))) == []
    stretched = replace(fine(), sweeps=SweepStatus(wanted, timedelta(minutes=12)))
    (finding,) = findings.of(stretched)
    assert finding.what.startswith("sweeps are stretched: they are 12 min apart instead of 5 min, because")
    assert not finding.severity.needs_a_person
    away = replace(stretched, processes=[Process(name, "host/1", ago(days=1)) for name in ("push", "enrich")])
    assert not [each for each in findings.of(away) if "stretched" in each.what]


def anomaly(kind: AnomalyKind, name: str, **changes: Any) -> Anomaly:
    usual = Anomaly(kind, name, None, None, 3, None, None, None, ago(hours=2), ago(minutes=1))
    return replace(usual, **changes)


@pytest.mark.parametrize("kind", AnomalyKind)
def test_each_kind_of_anomaly_is_said_with_what_to_do(kind: AnomalyKind) -> None:
    seen = replace(
        fine(seller(1)), anomalies=[anomaly(kind, "x", seller_id=FIRST, among=9, expected=4.0, deviation=1.0)]
    )
    (finding,) = findings.of(seen)
    assert finding.what
    assert finding.do
    assert finding.since == ago(hours=2)
    lost_by_nothing = kind in (AnomalyKind.UNKNOWN_FIELD, AnomalyKind.BEHIND_ANSWERS)
    assert findings.needs_a_person([finding]) is not lost_by_nothing
    assert said(seen) == "complete up to 5 s ago", "the copy is as complete as before"


def test_each_silent_shop_is_named_and_of_what_nobody_knows_the_first_of_each_kind() -> None:
    shops = [anomaly(AnomalyKind.SILENT_SHOP, str(FIRST + each), seller_id=FIRST + each) for each in (0, 1)]
    fields = [anomaly(AnomalyKind.UNKNOWN_FIELD, name) for name in ("order.x_a", "order.x_b", "order.x_c")]
    seen = replace(fine(seller(1), seller(2)), anomalies=[*shops, *fields])
    found = findings.of(seen)
    assert [each.seller for each in found[:2]] == ["示例卖家0001", "示例卖家0002"]
    assert found[2].what == "nobody knows the field order.x_a, which came 3 times, and 2 more like it"
    assert len(found) == 3
