"""The outcome of a fetch: each answer has exactly one outcome, and no change is dropped (P1)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.change import Source
from tests.store.databases import SELLER, at, trade
from topsync.model.kind import Kind
from topsync.model.known import Known
from topsync.model.need import Need
from topsync.platforms import fetch_outcome
from topsync.platforms.fetch_outcome import (
    AskAgain,
    Fetched,
    FetchOutcome,
    FetchRules,
    NoSession,
    PassOver,
    PlatformIsAway,
    SessionRefused,
    SetAside,
    Take,
    Unavailable,
)
from topsync.platforms.port import Flaw, NotThere, PlatformAwayError, Refused, Shown, Unreadable

ORDER = FetchRules(Kind.ORDER, asks_again_unreadable=True)
REFUND = FetchRules(Kind.REFUND, asks_again_unreadable=False)
TID = 7
STATUS = "WAIT_SELLER_SEND_GOODS"
OBJECT = trade(TID).form()
AWAY = PlatformAwayError()
ORIGINAL = b"what came"


def shown(modified: float, *, order_id: int = TID) -> Shown:
    return Shown(OBJECT, order_id, at(modified), lambda: ORIGINAL)


def need(*, promised: float | None = None, hinted: float | None = None, by_part_alone: bool = False) -> Need:
    return Need(
        tid=TID,
        seller_id=SELLER,
        settled_after=at(0),
        proven_after=None,
        reported_at=None,
        modified=None if promised is None else at(promised),
        source=Source.SWEEP if hinted is None else Source.PUSH,
        hinted_at=None if hinted is None else at(hinted),
        received_at=None,
        newest_at=at(0),
        by_part_alone=by_part_alone,
    )


def known(modified: float) -> Known:
    return Known(at(modified), at(0), True, STATUS)


def judged(
    fetched: Fetched, rules: FetchRules = ORDER, wanted: Need | None = None, stored: Known | None = None
) -> FetchOutcome:
    return fetch_outcome.judge(fetched, wanted or need(), stored, rules, latest_now=at(10))


UNKNOWN = SetAside("unknown_seller", "no such seller was ever added")
UNREADABLE = SetAside("unreadable_answer", "no tid", ORIGINAL)
AGAIN = AskAgain("unreadable_answer", ORIGINAL)
ANOTHER = SetAside("unreadable_answer", "the answer holds another order")
ANOTHERS = SetAside("refund_of_another_order", "the refund is one of another order")


@pytest.mark.parametrize(
    ("fetched", "of_an_order", "of_a_refund"),
    [
        (shown(5), Take(OBJECT), Take(OBJECT)),
        (shown(10), Take(OBJECT), Take(OBJECT)),
        (shown(11), AskAgain("modified_ahead", ORIGINAL), AskAgain("modified_ahead", ORIGINAL)),
        (shown(5, order_id=TID + 1), ANOTHER, ANOTHERS),
        (NotThere(), AskAgain("not_there"), AskAgain("not_there")),
        (
            Refused("code 15", whole_kind=False),
            SetAside("refused", "code 15"),
            SetAside("refund_refused", "code 15"),
        ),
        (Unreadable(Flaw.NO_OBJECT, "no tid", ORIGINAL), AGAIN, UNREADABLE),
        (
            Unreadable(Flaw.INCOMPLETE, "no tid", ORIGINAL),
            AskAgain("incomplete_answer", ORIGINAL),
            UNREADABLE,
        ),
        (Unreadable(Flaw.MALFORMED, "no tid", ORIGINAL), UNREADABLE, UNREADABLE),
        (NoSession(seller_is_known=True), AskAgain("no_session"), AskAgain("no_session")),
        (NoSession(seller_is_known=False), UNKNOWN, PassOver()),
        (SessionRefused(), AskAgain("session_refused"), AskAgain("session_refused")),
        (Unavailable(AWAY), PlatformIsAway(AWAY), AskAgain("platform_unavailable")),
    ],
    ids=str,
)
def test_the_outcome_of_each_answer(
    fetched: Fetched, of_an_order: FetchOutcome, of_a_refund: FetchOutcome
) -> None:
    assert judged(fetched) == of_an_order
    assert judged(fetched, REFUND) == of_a_refund


@pytest.mark.parametrize("rules", [ORDER, REFUND], ids=["order", "refund"])
def test_a_state_older_than_promised_is_never_stored(rules: FetchRules) -> None:
    assert judged(shown(4), rules, need(promised=5)) == AskAgain("detail_behind")
    assert judged(shown(5), rules, need(promised=5)) == Take(OBJECT)


def test_a_refund_does_not_ask_for_an_order_that_cannot_be_fetched_but_still_for_itself() -> None:
    alone = need(by_part_alone=True)
    assert judged(NotThere(), ORDER, alone) == PassOver()
    assert judged(NotThere(), REFUND, alone) == AskAgain("not_there")


def test_the_answer_is_not_shown() -> None:
    outcomes = [judged(shown(11)), judged(Unreadable(Flaw.MALFORMED, "no tid", ORIGINAL))]
    assert "came" not in repr([*outcomes, shown(5), Unreadable(Flaw.NO_OBJECT, "no tid", ORIGINAL)])


@pytest.mark.parametrize(
    ("fetched", "stored", "hinted", "promised", "suspicious"),
    [
        pytest.param(5, 5, 9, None, True, id="a change at 9 was reported, but the known state is shown"),
        pytest.param(4, 5, 9, None, True, id="or an even older state"),
        pytest.param(6, 5, 9, None, False, id="a new state came"),
        pytest.param(9, 9, 9, None, False, id="the known state is as new as the change"),
        pytest.param(5, None, 9, None, False, id="the order was not known"),
        pytest.param(5, 5, 9, 5, False, id="a list's promise says exactly what must come"),
        pytest.param(5, 5, None, None, False, id="a list is no message: it may show the known state"),
    ],
)
def test_a_stale_answer_to_a_message_is_recognised_because_it_has_nothing_new(
    fetched: float, stored: float | None, hinted: float | None, promised: float | None, suspicious: bool
) -> None:
    outcome = judged(
        shown(fetched),
        ORDER,
        need(hinted=hinted, promised=promised),
        None if stored is None else known(stored),
    )
    assert outcome == Take(OBJECT, is_old_news=suspicious)


seconds = st.integers(0, 12)
answers: st.SearchStrategy[Fetched] = st.one_of(
    st.builds(
        lambda modified, order: shown(modified, order_id=order), seconds, st.sampled_from([TID, TID + 1])
    ),
    st.just(NotThere()),
    st.builds(lambda whole: Refused("code 15", whole_kind=whole), st.booleans()),
    st.builds(lambda flaw: Unreadable(flaw, "no tid", ORIGINAL), st.sampled_from(Flaw)),
    st.builds(NoSession, st.booleans()),
    st.just(SessionRefused()),
    st.just(Unavailable(AWAY)),
)
needs = st.builds(
    lambda promised, hinted, alone: need(promised=promised, hinted=hinted, by_part_alone=alone),
    st.none() | seconds,
    st.none() | seconds,
    st.booleans(),
)
rules_of_kinds = st.builds(FetchRules, st.sampled_from(Kind), st.booleans())


@given(
    fetched=answers, wanted=needs, stored=st.none() | seconds.map(known), rules=rules_of_kinds, now=seconds
)
def test_each_combination_has_one_outcome_and_a_version_is_stored_only_if_nothing_is_against_it(
    fetched: Fetched, wanted: Need, stored: Known | None, rules: FetchRules, now: float
) -> None:
    outcome = fetch_outcome.judge(fetched, wanted, stored, rules, latest_now=at(now))
    assert isinstance(outcome, get_args(FetchOutcome))
    assert isinstance(outcome, Take) is (
        isinstance(fetched, Shown)
        and fetched.order_id == wanted.tid
        and _floor(wanted.modified) <= fetched.modified <= at(now)
    )
    if isinstance(outcome, PassOver | PlatformIsAway):
        assert not isinstance(fetched, Shown), (
            "a shown state is stored, asked for again or becomes a dead letter"
        )
    if isinstance(outcome, PlatformIsAway):
        assert fetched == Unavailable(outcome.error)
        assert rules.leads, "no failure of a part delays its order"
    settled = replace(wanted, settled_after=at(12))
    assert fetch_outcome.judge(fetched, settled, stored, rules, latest_now=at(now)) == outcome


def _floor(promised: datetime | None) -> datetime:
    return at(-1) if promised is None else promised
