"""After an outage, late changes wait and fresh changes do not. Without an outage, nothing waits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from consumer.enrich.backlog import Backlog
from consumer.enrich.read import decisions
from schemas.change import Change, Source
from tests.store.databases import SELLER, at
from topsync.model.kind import Kind

TID = 4000000000000000101
NOW = at(1000)
CHANGES = 100
FRESH = timedelta(seconds=10)
LATE, YOUNG = at(1000 - 11), at(1000 - 9)


@dataclass
class Batch:
    """One batch as a reader meets it."""

    received: list[float]
    unread: int


def late(backlog: Backlog, batch: Batch) -> bool:
    moments = [at(1000 - age) for age in batch.received]
    return backlog.late_before(moments, unread=batch.unread, now=NOW) is not None


@pytest.mark.parametrize(
    ("batches", "behind"),
    [
        pytest.param([Batch([500], 100)], [False], id="a few late changes are simply fetched"),
        pytest.param([Batch([1], 101)], [True], id="many unread changes are a backlog"),
        pytest.param(
            [Batch([500], 101), Batch([400], 0)], [True, True], id="and its last changes wait as well"
        ),
        pytest.param([Batch([500], 101), Batch([11, 9], 0)], [True, True], id="to the last late change"),
        pytest.param([Batch([500], 101), Batch([9], 50)], [True, False], id="until fresh changes come"),
        pytest.param(
            [Batch([500], 101), Batch([9], 50), Batch([11], 50)],
            [True, False, False],
            id="then it is over",
        ),
        pytest.param(
            [Batch([500], 101), Batch([9], 101), Batch([9], 101)],
            [True, False, True],
            id="until the next",
        ),
    ],
)
def test_a_writer_is_behind_from_many_unread_changes_until_it_reaches_fresh_ones(
    batches: list[Batch], behind: list[bool]
) -> None:
    backlog = Backlog(CHANGES, FRESH)
    assert [late(backlog, batch) for batch in batches] == behind


def test_a_writer_that_may_never_be_behind_fetches_everything() -> None:
    assert not late(Backlog(0, FRESH), Batch([500], 1_000_000))


@pytest.mark.parametrize(
    ("source", "newest", "is_behind", "reason", "waits"),
    [
        pytest.param(Source.PUSH, LATE, False, None, False, id="a writer that keeps up fetches late changes"),
        pytest.param(Source.PUSH, LATE, True, None, True, id="a writer that is behind makes it wait"),
        pytest.param(Source.PUSH, YOUNG, True, None, False, id="but no fresh change"),
        pytest.param(Source.PUSH, YOUNG, True, "backlog", False, id="even where the order is in the backlog"),
        pytest.param(Source.SWEEP, YOUNG, False, "backlog", True, id="a pull waits for the backlog"),
        pytest.param(Source.SWEEP, YOUNG, False, "in_task", True, id="and for the backlog's tasks"),
        pytest.param(Source.SWEEP, YOUNG, False, "not_there", False, id="and for nothing else"),
        pytest.param(Source.SWEEP, YOUNG, False, "lingering", False, id="not for lingering messages"),
        pytest.param(Source.SWEEP, YOUNG, False, None, False, id="and not if nothing waits"),
    ],
)
def test_what_may_wait(
    source: Source, newest: datetime, is_behind: bool, reason: str | None, waits: bool
) -> None:
    change = Change(
        seller_id=SELLER,
        tid=TID,
        event="x",
        occurred_at=at(0),
        settled_after=at(0),
        received_at=newest,
        source=source,
    )
    (need,) = decisions.coalesce([change], Kind.ORDER).values()
    late_before = NOW - FRESH if is_behind else None
    waiting = {TID: reason} if reason else {}
    assert decisions.may_wait(need, late_before=late_before, waiting=waiting) is waits
