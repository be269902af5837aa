"""When the enricher stops instead of writing more dead letters, and when a seller's failures do not count."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from consumer.enrich.dead_letter_share import (
    Limit,
    RecordOutcome,
    Share,
    TooManyDeadLettersError,
    outcome_of,
)
from tests.store.databases import at
from topsync.base.settings import KafkaSettings
from topsync.deadletters import box
from topsync.deadletters.box import Original
from topsync.model.kind import Kind
from topsync.store.open_letters import Subject
from topsync.stream import topics

LIMIT = Limit(share=0.2, records=100, least=10)
ONE, OTHER, THIRD = 1, 2, 3
TOPICS = topics.registry(KafkaSettings(kafka_bootstrap_servers="unused:1", topic_prefix="t"))


def good(count: int, seller_id: int | None = ONE) -> list[RecordOutcome]:
    return [RecordOutcome(seller_id)] * count


def dead(count: int, seller_id: int | None = None) -> list[RecordOutcome]:
    return [RecordOutcome(seller_id, "unreadable_change")] * count


@pytest.mark.parametrize(
    ("outcomes", "stops"),
    [
        pytest.param(dead(9), False, id="a few never stop it"),
        pytest.param(dead(10), True, id="enough of them do, with nothing else there"),
        pytest.param(good(80) + dead(20), False, id="a share up to the limit"),
        pytest.param(good(79) + dead(21), True, id="a larger share"),
        pytest.param(good(1000) + dead(21), True, id="of the last records, however many were good before"),
        pytest.param((good(90) + dead(10)) * 10, False, id="always below the limit"),
        pytest.param(dead(9) + good(100) + dead(9), False, id="old records are forgotten"),
        pytest.param(good(20) + dead(15) + good(300), True, id="crossed in the middle of a batch"),
    ],
)
def test_a_share_above_the_limit_stops(outcomes: Sequence[RecordOutcome], stops: bool) -> None:
    assert is_stopped(outcomes, spares_one=False) is stops
    # Records of no seller are not left out.
    assert is_stopped(outcomes, spares_one=True) is stops


@pytest.mark.parametrize(
    ("outcomes", "stops"),
    [
        pytest.param(dead(100, ONE), False, id="one seller's orders, and nobody else's"),
        pytest.param(dead(50, ONE) + good(10, OTHER), False, id="most of them"),
        pytest.param(dead(50, ONE) + good(40, OTHER) + dead(10, OTHER), False, id="few of a second seller"),
        pytest.param(dead(40, ONE) + good(20, OTHER) + dead(20, THIRD), True, id="many of a second seller"),
        pytest.param(dead(50, ONE) + dead(10), True, id="and records of no seller"),
    ],
)
def test_one_seller_alone_does_not_stop_the_others(outcomes: Sequence[RecordOutcome], stops: bool) -> None:
    assert is_stopped(outcomes, spares_one=True) is stops
    assert is_stopped(outcomes, spares_one=False), "the only seller is not left out"


def test_a_limit_of_a_whole_share_never_stops() -> None:
    assert not is_stopped(dead(1000), spares_one=False, limit=Limit(share=1, records=100, least=1))


def test_the_error_says_how_many_records_failed_why_and_what_to_do() -> None:
    share = Share(LIMIT)
    with pytest.raises(TooManyDeadLettersError) as stopped:
        share.take([*good(5), *[RecordOutcome(None, "refused")] * 3, *dead(20)], spares_one=False)
    text = str(stopped.value)
    assert "10 of the last 15 records" in text
    assert "unreadable_change 7, refused 3" in text
    assert "TOPSYNC_DEAD_LETTER_LIMIT_SHARE=0.2" in text
    assert "remove the cause" in text


def is_stopped(outcomes: Sequence[RecordOutcome], *, spares_one: bool, limit: Limit = LIMIT) -> bool:
    try:
        Share(limit).take(outcomes, spares_one=spares_one)
    except TooManyDeadLettersError:
        return True
    return False


@pytest.mark.parametrize(
    ("reason", "subject", "outcome"),
    [
        pytest.param("unreadable_change", None, RecordOutcome(ONE, "unreadable_change"), id="record"),
        pytest.param(
            "unstorable", Subject.of_order(7, "unstorable"), RecordOutcome(ONE, "unstorable"), id="order"
        ),
        pytest.param(
            "refund_refused", Subject(7, Kind.REFUND, 8, "refund_refused"), None, id="a part of an order"
        ),
        pytest.param("unknown_seller", Subject.of_order(7, "unknown_seller"), None, id="nobody's order"),
    ],
)
def test_which_dead_letters_mean_that_we_may_be_the_cause(
    reason: str, subject: Subject | None, outcome: RecordOutcome | None
) -> None:
    letter = box.letter(
        TOPICS, reason, "why", Original(b""), at=at(1), origin="a/test", seller_id=ONE, subject=subject
    )
    assert outcome_of(letter) == outcome
