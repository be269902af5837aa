"""A dead letter says which order and seller it is about, wherever that is written; `repr` shows no more."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from tests.deadletters.letterbox import (
    RECEIVER,
    TID,
    TOPIC,
    hint,
    received,
    refused,
    unreadable_message,
    unreadable_snapshot,
)
from tests.store.databases import SELLER, at, version
from topsync.base import json_bounds
from topsync.deadletters import letters, retrying
from topsync.deadletters.letters import DeadLetterId
from topsync.stream import records
from topsync.stream.records import Record


def test_a_letter_about_a_hint_has_the_hint() -> None:
    letter = letters.read(received(refused()))
    assert (letter.id, str(letter.id)) == (DeadLetterId(0, 17), "0/17")
    assert (letter.reason, letter.at, letter.origin) == ("refused", at(60), "enricher/changes/0/17")
    assert (letter.seller_id, letter.tid, letter.hint) == (SELLER, TID, hint())
    assert ("ce_subject", str(TID).encode()) in letter.original_headers


def test_a_letter_about_a_snapshot_has_its_seller_from_the_headers_and_its_order_from_the_key() -> None:
    letter = letters.read(received(unreadable_snapshot()))
    assert (letter.seller_id, letter.tid, letter.hint) == (SELLER, TID, None)


def test_a_letter_about_an_order_that_cannot_be_stored_or_was_given_up_knows_its_seller() -> None:
    own = records.dead_letter(
        TOPIC,
        reason="unstorable",
        detail="DataError",
        original=version(TID, 1, 2).wire.encode(),
        key=records.key_of(TID),
        at=at(60),
        origin="enricher",
        seller_id=SELLER,
    )
    letter = letters.read(received(own))
    assert (letter.seller_id, letter.tid) == (SELLER, TID)


def test_with_a_wrong_key_the_order_comes_from_the_value() -> None:
    for record in (refused(), unreadable_snapshot()):
        misplaced = record._replace(key=records.key_of(TID + 1))
        assert letters.read(received(misplaced)).tid == TID


TOO_MUCH = b'{"tid":101,"x":[' + b"[]," * json_bounds.MAX_VALUES + b"0]}"


@pytest.mark.parametrize("value", [None, b"", b"\xff\x00", b"[]", b'{"tid":0}', b'{"tid":"x"}', TOO_MUCH])
def test_a_record_that_another_program_wrote_into_the_topic_is_a_letter_too(value: bytes | None) -> None:
    letter = letters.read(received(Record(TOPIC, b"\xff", value, [("ce_time", b"once")])))
    assert (letter.reason, letter.origin, letter.seller_id, letter.tid) == ("unknown", "unknown", None, None)
    assert letter.at == datetime.fromtimestamp(1, UTC)
    assert letter.event_id == f"{TOPIC}/0/17"


def test_the_repr_of_a_letter_does_not_show_its_content() -> None:
    shown = repr(letters.read(received(unreadable_snapshot())))
    assert RECEIVER not in shown
    assert "secret" not in shown


@pytest.mark.parametrize("text", ["17", "0/", "/17", "0/x", "0/17 ", "-1/17", "0/1_0", "٠/1"])
def test_an_id_is_partition_and_offset(text: str) -> None:
    assert DeadLetterId.parse("0/17") == DeadLetterId(0, 17)
    with pytest.raises(ValueError, match="partition/offset"):
        DeadLetterId.parse(text)


def test_the_order_of_a_letter_is_asked_for_like_the_hint_but_with_the_operators_priority() -> None:
    letter = letters.read(received(refused()))
    asked = retrying.retry(letter, now=at(99))
    assert asked == hint().model_copy(
        update={"source": "operator", "received_at": at(99), "reason": "dead letter 0/17"}
    )


def test_without_a_hint_only_a_fetch_after_the_dead_letter_is_an_answer() -> None:
    asked = retrying.retry(letters.read(received(unreadable_snapshot())), now=at(99))
    assert not isinstance(asked, retrying.NothingToRetry)
    assert (asked.seller_id, asked.tid, asked.settled_after, asked.modified) == (SELLER, TID, at(60), None)


@pytest.mark.parametrize("seller_id", [SELLER, None])
def test_a_letter_that_names_no_order_cannot_be_retried_and_says_what_helps(seller_id: int | None) -> None:
    letter = letters.read(received(unreadable_message(seller_id=seller_id)))
    answer = retrying.retry(letter, now=at(99))
    assert isinstance(answer, retrying.NothingToRetry)
    command = (
        f"topsync replay --seller {SELLER} --from '2025-11-20 09:51:00' --to '2025-11-20 10:01:00'"
        if seller_id
        else "sweeps"
    )
    assert command in answer.advice


def test_a_letter_about_an_export_line_without_an_order_must_be_handled_by_people() -> None:
    line = records.dead_letter(
        TOPIC,
        reason="unreadable_export_line",
        detail="no tid",
        original=orjson.dumps({}),
        at=at(60),
        origin=f"bootstrap/{SELLER}/1",
        seller_id=SELLER,
    )
    answer = retrying.retry(letters.read(received(line)), now=at(99))
    assert isinstance(answer, retrying.NothingToRetry)
    assert "topsync deadletter show 0/17 --original" in answer.advice
