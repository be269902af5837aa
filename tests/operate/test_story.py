"""The story of an order, without servers: events in the order of time, and a verdict in every case."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.change import Change, Source
from topsync.model.kind import Kind
from topsync.model.refetch import BACKLOG, IN_TASK, LINGERING, PARKED
from topsync.operate import story, story_tables, verdicts
from topsync.operate.order_records import HintRecord, OrderRecords, VersionRecord, WhereRecorded
from topsync.operate.story import OrderEvidence, StoryEventKind
from topsync.operate.verdicts import OrderStanding
from topsync.store.call_budget import Ban
from topsync.store.order_facts import AroundOrder, CoveringDay, OrderFacts, OrderWait, SellerGap, StoredRow
from topsync.store.push_connections import PushConnection
from topsync.store.sellers import Life, Seller, SellerState

NOW = datetime(2026, 11, 20, 4, tzinfo=UTC)
TID = 4000000000000000101
SELLER = 2200000000001
RUNNING = {"push": 1, "enrich": 1, "reconcile": 1}

moments = st.integers(-100_000, 0).map(lambda seconds: NOW + timedelta(seconds=seconds))
instants = st.one_of(st.none(), moments)
words = st.sampled_from(["push", "sweep", "gap", "satellite"])


def seller(state: SellerState = SellerState.LIVE) -> Seller:
    return Seller(
        seller_id=SELLER, nick="demo_one", session_cipher=b"", state=state, version=1, life=Life(),
        refused_at=None, reason=None, since=NOW - timedelta(hours=1), replay_due=False, refresh_attempts=0,
        refresh_allowed=False, refresh_under_way=False,
    )  # fmt: skip


@st.composite
def rows(draw: st.DrawFn) -> StoredRow:
    return StoredRow(
        kind=Kind.ORDER, id=TID, seller_id=SELLER, created=draw(instants), modified=draw(moments),
        status="PAID", fetched_at=draw(moments), source=draw(words), revision=draw(st.integers(1, 5)),
        published_revision=draw(st.integers(0, 5)), transitions=("paid",), changed=(), status_from=None,
    )  # fmt: skip


@st.composite
def waits(draw: st.DrawFn) -> OrderWait:
    of_backlog = [BACKLOG, IN_TASK]
    known = [*verdicts.EXPLAINED, *PARKED, *of_backlog, LINGERING]
    reason = draw(st.sampled_from([*known, "a_word_to_come"]))
    return OrderWait(
        seller_id=SELLER, event="e", occurred_at=draw(moments), settled_after=draw(moments),
        modified=draw(instants), source=draw(words), reason=reason, attempts=draw(st.integers(0, 50)),
        due_at=draw(moments) + timedelta(hours=20), parts=(), parked=reason in PARKED,
    )  # fmt: skip


@st.composite
def hints(draw: st.DrawFn) -> HintRecord:
    at = draw(moments)
    change = Change(
        seller_id=SELLER, tid=TID, event=draw(st.sampled_from(["listed", "taobao_trade_TradeCreate"])),
        occurred_at=draw(moments), settled_after=at, received_at=at, source=draw(st.sampled_from(Source)),
        reason=draw(st.one_of(st.none(), st.text(max_size=5))),
    )  # fmt: skip
    where = WhereRecorded("changes", 0, draw(st.integers(0, 1000)), at)
    return HintRecord(where, change, draw(st.one_of(st.none(), st.integers(0, 9))))


@st.composite
def versions(draw: st.DrawFn) -> VersionRecord:
    at = draw(moments)
    return VersionRecord(
        where=WhereRecorded(draw(st.sampled_from(["orders", "refunds"])), 0, 1, at), id=TID, seller_id=SELLER,
        revision=draw(st.integers(1, 5)), published_at=at, fetched_at=draw(instants), modified=draw(instants),
        hinted_at=draw(instants), status="PAID", status_from=draw(st.one_of(st.none(), st.just("NEW"))),
        transitions=("paid",), changed=("pay_time",), found_by="push", is_tombstone=draw(st.booleans()),
    )  # fmt: skip


@st.composite
def gaps(draw: st.DrawFn) -> SellerGap:
    return SellerGap(draw(moments), draw(instants), "silent", draw(moments), None, draw(instants))


@st.composite
def evidence(draw: st.DrawFn) -> OrderEvidence:
    state = draw(st.one_of(st.none(), st.sampled_from(SellerState)))
    return OrderEvidence(
        tid=TID,
        now=NOW,
        since=NOW - timedelta(days=7),
        facts=OrderFacts(order=draw(st.one_of(st.none(), rows())), wait=draw(st.one_of(st.none(), waits()))),
        around=AroundOrder(gaps=tuple(draw(st.lists(gaps(), max_size=3)))),
        records=OrderRecords(
            hints=draw(st.lists(hints(), max_size=5)), versions=draw(st.lists(versions(), max_size=5))
        ),
        seller_id=draw(st.one_of(st.none(), st.just(SELLER))) if state is None else SELLER,
        seller=None if state is None else seller(state),
        complete_until=draw(instants),
        bans=tuple(draw(st.lists(st.builds(Ban, st.sampled_from(["app", "other"]), moments), max_size=2))),
        running=draw(st.sampled_from([{}, RUNNING])),
    )


@given(evidence())
def test_the_story_is_in_the_order_of_time_and_always_ends_with_a_verdict(found: OrderEvidence) -> None:
    times = [event.at for event in story.events(found)]
    assert times == sorted(times)
    said = verdicts.verdicts(found)
    assert said
    assert all(verdict.says and verdict.next for verdict in said)
    assert len(story_tables.document(found)["standings"]) == len(said)  # type: ignore[arg-type]


@given(evidence())
def test_only_a_published_order_is_called_published(found: OrderEvidence) -> None:
    standings = [verdict.standing for verdict in verdicts.verdicts(found)]
    if OrderStanding.PUBLISHED in standings:
        assert found.order is not None
        assert found.order.is_published
        assert standings[-1] is OrderStanding.PUBLISHED
    assert (OrderStanding.UNKNOWN in standings) <= (not found.is_known)


@given(evidence())
def test_the_verdict_does_not_depend_on_the_order_of_the_records(found: OrderEvidence) -> None:
    turned = replace(
        found,
        records=OrderRecords(hints=found.records.hints[::-1], versions=found.records.versions[::-1]),
    )
    assert {verdict.standing for verdict in verdicts.verdicts(turned)} == {
        verdict.standing for verdict in verdicts.verdicts(found)
    }


def plain(**wish: object) -> OrderEvidence:
    found = OrderEvidence(
        tid=TID, now=NOW, since=NOW, seller_id=SELLER, seller=seller(), complete_until=NOW, running=RUNNING
    )
    return replace(found, **wish)  # type: ignore[arg-type]


def hint(ahead: int | None, *, received: float = 10) -> HintRecord:
    at = NOW - timedelta(seconds=received)
    change = Change(
        seller_id=SELLER, tid=TID, event="taobao_trade_TradeBuyerPay", occurred_at=at - timedelta(seconds=2),
        settled_after=at, received_at=at, source=Source.PUSH,
    )  # fmt: skip
    return HintRecord(WhereRecorded("changes", 3, 17, at), change, ahead)


def test_a_message_says_how_long_it_took() -> None:
    (said,) = story.events(plain(records=OrderRecords(hints=[hint(0)])))
    assert said.kind is StoryEventKind.MESSAGE
    assert "2.0 s before" in said.says
    assert "changes 3/17" in said.says


@pytest.mark.parametrize(("service", "starts"), [("enrich", True), ("push", False)])
def test_if_a_service_does_not_run_the_story_names_it(service: str, starts: bool) -> None:
    running = {name: count for name, count in RUNNING.items() if name != service}
    (verdict,) = verdicts.verdicts(plain(records=OrderRecords(hints=[hint(3)]), running=running))
    assert verdict.standing is OrderStanding.UNREAD
    assert ("start it" in verdict.next) is starts


def test_a_stored_version_answers_a_hint_that_is_not_committed_yet() -> None:
    row = StoredRow(
        kind=Kind.ORDER, id=TID, seller_id=SELLER, created=NOW, modified=NOW, status="PAID", fetched_at=NOW,
        source="push", revision=1, published_revision=1, transitions=(), changed=(), status_from=None,
    )  # fmt: skip
    found = plain(facts=OrderFacts(order=row), records=OrderRecords(hints=[hint(1)]))
    assert [verdict.standing for verdict in verdicts.verdicts(found)] == [OrderStanding.PUBLISHED]
    earlier = replace(row, fetched_at=NOW - timedelta(minutes=1))
    found = replace(found, facts=OrderFacts(order=earlier))
    assert verdicts.verdicts(found)[0].standing is OrderStanding.UNREAD


def test_a_hint_that_led_to_nothing_says_where_to_look() -> None:
    (verdict,) = verdicts.verdicts(plain(records=OrderRecords(hints=[hint(0)])))
    assert verdict.standing is OrderStanding.NOT_STORED


def test_push_that_is_down_is_reported_unless_an_open_gap_reports_it() -> None:
    last = PushConnection(uuid4(), "default", NOW, NOW)
    down = plain(push_is_up=False, last_push=last)
    assert OrderStanding.PUSH_DOWN in [verdict.standing for verdict in verdicts.verdicts(down)]
    gap = SellerGap(NOW, None, "silent", NOW, None, None)
    down = replace(down, around=AroundOrder(gaps=(gap,)))
    assert OrderStanding.PUSH_DOWN not in [verdict.standing for verdict in verdicts.verdicts(down)]


def test_windows_that_are_not_kept_any_more_are_told_of_by_their_days_sum() -> None:
    pulled = NOW - timedelta(days=30)
    day = CoveringDay(
        day=pulled.date(), source="sweep", windows=288, listed=1440, hinted=7,
        first_pulled_at=pulled - timedelta(hours=20), last_pulled_at=pulled,
        start=pulled - timedelta(hours=21), end=pulled, proves=True,
    )  # fmt: skip
    (told,) = story.events(plain(around=AroundOrder(window_days=(day,))))
    assert told.kind is StoryEventKind.PULL
    assert told.at == pulled
    assert "and proved it; day's sum of 2026-10-21: windows 288, orders in them 1440" in told.says
    assert (told.facts["day"], told.facts["windows"], told.facts["proves"]) == (day.day, 288, True)
    (unproven,) = story.events(plain(around=AroundOrder(window_days=(replace(day, proves=False),))))
    assert "proved" not in unproven.says


def test_a_seller_without_messages_waits_for_the_next_poll_and_not_for_push() -> None:
    last = PushConnection(uuid4(), "default", NOW, NOW)
    polled = plain(push_is_up=False, last_push=last, polled_every=timedelta(seconds=180), seller=seller())
    (verdict,) = verdicts.verdicts(polled)
    assert verdict.standing is OrderStanding.UNKNOWN
    assert "wait for the next poll: its seller has no messages, and is polled every 3 min" in verdict.next


def test_of_several_unread_records_the_oldest_says_how_many_are_before_it() -> None:
    found = plain(records=OrderRecords(hints=[hint(8, received=5), hint(3, received=65)]))
    (verdict,) = verdicts.verdicts(found)
    assert "65 s, with 2 others before it" in verdict.says


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0.0 s"), (1.84, "1.8 s"), (12, "12 s"), (240, "4 min"), (7200, "2 h"), (3 * 86400, "3 days")],
)
def test_a_duration_is_written_in_words(seconds: float, words: str) -> None:
    assert story.duration(timedelta(seconds=seconds)) == words
