"""What a record of a topic brings a table that was restored from a backup."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from aiokafka import ConsumerRecord

from schemas import events
from schemas.change import Source
from schemas.delta import Delta
from schemas.trade import Trade
from schemas.transitions import Transition
from topsync.model.copy_state import CopyState
from topsync.model.kind import Kind
from topsync.model.unpublished import Unpublished
from topsync.operate.restored_command import in_words
from topsync.store import deltas
from topsync.store.versions import CaughtUp
from topsync.stream import records
from topsync.verify import catching_up
from topsync.verify.catching_up import CaughtUpTopics, TopicVersion

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
TID, SELLER = 4_000_000_000_000_000_001, 2_000_000_001


def trade(tid: int = TID) -> str:
    return Trade.read(
        {
            "tid": tid,
            "status": "TRADE_FINISHED",
            "created": "2026-11-19 12:00:00",
            "modified": "2026-11-20 20:00:00",
            "orders": {"order": [{"oid": tid}]},
        }
    ).text


def shown(revision: int = 3, tid: int = TID, value: str | None = None) -> TopicVersion:
    """A record as a writer publishes it, read as a subscriber does."""
    version = Unpublished(
        tid,
        tid,
        None,
        SELLER,
        revision,
        NOON,
        "TRADE_FINISHED",
        NOON,
        value or trade(tid),
        Source.PUSH,
        Delta((Transition.PAID, Transition.FINISHED), "TRADE_NO_CREATE_PAY", ("status",)),
    )
    made = records.version("orders", events.ORDERS, version, published_at=NOON)
    found = catching_up.shown(taken(made.key, made.value, made.headers))
    assert found is not None
    return found


def taken(key: bytes | None, value: bytes | None, headers: object) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord("orders", 0, 0, 0, 0, key, value, None, 0, 0, headers)


def copy(revision: int, *, published: bool = True, modified: datetime = NOON) -> CopyState:
    return CopyState(TID, None, modified, "TRADE_FINISHED", revision, published)


@pytest.mark.parametrize(
    ("stored", "nothing"),
    [
        (None, False),
        (copy(2), False),
        (copy(3, published=False), False),
        (copy(3), True),
        (copy(3, modified=NOON + timedelta(seconds=1)), False),
        (copy(4), True),
        (copy(4, published=False), False),
    ],
)
def test_only_what_the_table_has_or_has_gone_beyond_brings_nothing(
    stored: CopyState | None, nothing: bool
) -> None:
    assert catching_up.brings_nothing(shown(), stored) == nothing


def test_a_record_has_all_that_its_row_has() -> None:
    found = catching_up.version_of(Kind.ORDER, shown())
    version = found.version
    assert (version.key, version.seller_id, version.fetched_at, version.source) == (TID, SELLER, NOON, "push")
    assert (version.modified, version.wire, found.revision) == (NOON, trade(), 3)
    assert version.content_hash == Trade.from_wire(trade()).content_hash()
    step = deltas.read(found.step, Transition)
    assert step == Delta((Transition.PAID, Transition.FINISHED), "TRADE_NO_CREATE_PAY", ("status",))


def test_what_no_writer_of_ours_has_written_is_counted_and_left() -> None:
    assert catching_up.shown(taken(b"x", b"{}", [])) is None
    assert catching_up.shown(taken(None, b"{}", shown().record.headers)) is None
    with pytest.raises(ValueError, match="ValidationError"):
        catching_up.version_of(Kind.ORDER, shown(value="{}"))


def test_versions_of_the_same_order_are_taken_one_after_the_other() -> None:
    first, second, other = shown(1), shown(2), shown(1, TID + 1)
    assert catching_up.layers([first, other, second]) == [{TID: first, TID + 1: other}, {TID: second}]


def test_the_command_says_what_is_left_to_do() -> None:
    outcome = CaughtUpTopics(unreadable=2)
    outcome.rows[Kind.ORDER] = CaughtUp(1_000, 20)
    outcome.erased[SELLER] = 7
    said = "\n".join(in_words(outcome))
    assert "orders: 1,000 were missing in the table, 20 versions were newer" in said
    assert f"seller {SELLER} was erased after the backup, and 7 rows of it are back" in said
    assert "2 records cannot be read by this release" in said
