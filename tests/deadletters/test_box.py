"""The box for dead letters: each is whole, is counted and logged once, and repeats no open dead letter."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from schemas import cloud_events
from tests.store.databases import SELLER, at, emptied
from topsync.base.settings import KafkaSettings
from topsync.deadletters import box, reasons
from topsync.deadletters.box import DeadLetter, Original
from topsync.model.kind import Kind
from topsync.store.database import Pool
from topsync.store.open_letters import Subject
from topsync.stream import topics

TOPICS = topics.registry(KafkaSettings(kafka_bootstrap_servers="unused:1", topic_prefix="t"))
KEPT = TOPICS.letters_kept
ORDER, REFUND = Subject.of_order(7, "refused"), Subject(7, Kind.REFUND, 8, "refused")


@pytest.fixture
async def pool(migrated_database_url: str) -> AsyncIterator[Pool]:
    async with emptied(migrated_database_url) as pool:
        yield pool


def letter(subject: Subject | None) -> DeadLetter:
    original = Original(b"secret", b"7", [("ce_id", b"1")])
    return box.letter(
        TOPICS, "refused", "code 15", original, at=at(1), origin="a/test", seller_id=SELLER, subject=subject
    )


def counted() -> float:
    return REGISTRY.get_sample_value("topsync_dead_letters_total", {"reason": "refused"}) or 0.0


def test_every_reason_is_shown_before_its_first_letter() -> None:
    """Of a counter that appears as 1, Prometheus sees no increase, and no alert would come."""
    for reason in reasons.KNOWN:
        assert REGISTRY.get_sample_value("topsync_dead_letters_total", {"reason": reason}) is not None


def test_a_letter_keeps_its_original_and_is_counted_and_logged_only_when_it_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before, dead = counted(), letter(REFUND)
    assert (dead.record.topic, dead.record.key, dead.record.value) == (
        "t.trade.deadletter.v1",
        b"7",
        b"secret",
    )
    assert ("original_ce_id", b"1") in dead.record.headers
    headers = cloud_events.attributes(dead.record.headers)
    assert (headers["reason"], headers["detail"]) == ("refused", "code 15")
    assert (headers["source"], headers["sellerid"]) == ("/topsync/a/test", str(SELLER))
    assert counted() == before
    dead.report()
    assert counted() == before + 1
    assert "secret" not in caplog.text


def test_of_several_dead_letters_about_an_order_the_first_stays_but_those_about_records_all_stay() -> None:
    order, again, refund, record, other = map(letter, (ORDER, ORDER, REFUND, None, None))
    assert box.first_ones([order, again, refund, record, other], set()) == [order, refund, record, other]
    assert box.first_ones([order, refund, record], {ORDER}) == [refund, record]


async def test_an_order_with_an_open_dead_letter_gets_no_second(pool: Pool) -> None:
    letters = [letter(ORDER), letter(None)]
    assert await box.without_repeats(pool, letters, kept=KEPT) == letters
    await box.note(pool, letters, kept=KEPT)
    order, refund, record = map(letter, (ORDER, REFUND, None))
    assert await box.without_repeats(pool, [order, refund, record], kept=KEPT) == [refund, record]
