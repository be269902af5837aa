"""Which orders and parts of orders have an open dead letter: these are not set aside a second time.

The letters are in their topic, which cannot be queried. So whoever publishes a letter notes it here
afterwards; a crash in between repeats the letter. Before an operator's hint asks for an order again, its note
is deleted (`forget`), so that a second failure makes a new letter.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple

from topsync.model.kind import Kind
from topsync.store.database import Pool, sql

_KIN_AT_ONCE: Final = 10_000


class Subject(NamedTuple):
    """What a letter is about, and why it was set aside."""

    tid: int
    kind: Kind
    id: int
    """Its `tid`, where it is the order itself."""
    reason: str

    @classmethod
    def of_order(cls, tid: int, reason: str) -> Subject:
        """An order itself."""
        return cls(tid, Kind.ORDER, tid, reason)


@dataclass(frozen=True, slots=True)
class OpenDeadLetter:
    """A letter in the topic."""

    subject: Subject
    event_id: str
    """The CloudEvents id, by which operators' marks refer to it."""
    seller_id: int | None


async def among(pool: Pool, subjects: Collection[Subject], *, kept: timedelta) -> set[Subject]:
    """The subjects that have an open letter; `kept` is how long the topic keeps a letter."""
    rows = await pool.fetch(sql("open_letters.among"), *_columns(subjects), kept)
    return {Subject(row["tid"], Kind(row["kind"]), row["id"], row["reason"]) for row in rows}


async def note(pool: Pool, letters: Sequence[OpenDeadLetter], *, kept: timedelta) -> None:
    """Note that the topic has these letters, and forget those that it no longer has. Idempotent."""
    by_subject = {letter.subject: letter for letter in letters}
    await pool.execute(
        sql("open_letters.note"),
        *_columns(by_subject),
        [letter.event_id for letter in by_subject.values()],
        [letter.seller_id for letter in by_subject.values()],
        kept,
    )


async def of_orders(pool: Pool, tids: Collection[int]) -> list[OpenDeadLetter]:
    """The open letters about these orders and their parts.

    A part of a kind that only a newer release knows is left out.
    """
    return [
        OpenDeadLetter(Subject(row["tid"], kind, row["id"], row["reason"]), row["event_id"], row["seller_id"])
        for row in await pool.fetch(sql("open_letters.of_orders"), list(tids))
        if (kind := Kind.known(row["kind"])) is not None
    ]


async def kin(pool: Pool, seller_id: int, reason: str, *, limit: int) -> list[int]:
    """The orders of a seller with an open letter for this reason, at most `limit`, by tid."""
    found: list[int] = []
    while len(found) < limit:
        after = found[-1] if found else 0
        page = await pool.fetch(
            sql("open_letters.kin"), seller_id, reason, after, min(_KIN_AT_ONCE, limit - len(found))
        )
        if not page:
            break
        found += [row["tid"] for row in page]
    return found


async def forget(pool: Pool, event_ids: Sequence[str]) -> None:
    """Forget these letters: their orders are set aside again if they fail again. Idempotent."""
    await pool.execute(sql("open_letters.forget"), event_ids)


def _columns(subjects: Collection[Subject]) -> tuple[list[int], list[str], list[int], list[str]]:
    return (
        [subject.tid for subject in subjects],
        [subject.kind.value for subject in subjects],
        [subject.id for subject in subjects],
        [subject.reason for subject in subjects],
    )
