"""Which orders and refunds have a dead letter that nobody has dealt with: none is set aside a second time.

The letters are in their topic, which cannot be asked; so whoever publishes a letter notes it here afterwards,
and a crash in between repeats the letter. Before an operator's hint asks for an order again, its note goes
(`forget`), so that a second failure is set aside anew.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from topsync.store.database import Pool, sql


class Subject(NamedTuple):
    """What a letter is about, and why it was set aside; `refund_id` is 0 where that is the order itself."""

    tid: int
    refund_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class OpenLetter:
    """A letter that the topic has."""

    subject: Subject
    event_id: str
    """The CloudEvents id, by which operators' marks refer to it."""
    seller_id: int | None


async def among(pool: Pool, subjects: Collection[Subject], *, kept: timedelta) -> set[Subject]:
    """Those of these subjects that have an open letter; `kept` is how long the topic keeps one."""
    rows = await pool.fetch(sql("open_letters.among"), *_columns(subjects), kept)
    return {Subject(*row) for row in rows}


async def note(pool: Pool, letters: Sequence[OpenLetter], *, kept: timedelta) -> None:
    """Note that the topic has these letters, and forget those that it no longer has. Idempotent."""
    by_subject = {letter.subject: letter for letter in letters}
    await pool.execute(
        sql("open_letters.note"),
        *_columns(by_subject),
        [letter.event_id for letter in by_subject.values()],
        [letter.seller_id for letter in by_subject.values()],
        kept,
    )


async def forget(pool: Pool, event_ids: Sequence[str]) -> None:
    """Forget these letters: what they are about will be set aside again if it fails again. Idempotent."""
    await pool.execute(sql("open_letters.forget"), event_ids)


def _columns(subjects: Collection[Subject]) -> tuple[list[int], list[int], list[str]]:
    return (
        [one.tid for one in subjects],
        [one.refund_id for one in subjects],
        [one.reason for one in subjects],
    )
