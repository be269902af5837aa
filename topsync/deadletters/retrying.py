"""What trying a dead letter again means, without I/O.

Whatever went wrong with an order, the platform's own detail is the authority. So we ask for the order anew,
by a hint with the operator's priority, and never write it from what is in the letter. A letter that names no
order cannot be tried again; then the answer says what helps instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from schemas import platform_time
from schemas.change import Change, Source
from topsync.deadletters.letters import Letter
from topsync.model import named
from topsync.model.named import Named

EVENT: Final = "retried"
"""Stands for a message's topic when the letter holds no hint."""

REPLAY_MARGIN: Final = timedelta(minutes=10)
"""Subtracted from a letter's time: what it is about may have happened somewhat earlier."""


@dataclass(frozen=True, slots=True)
class NothingToRetry:
    """Why a letter cannot be tried again, and what to do instead."""

    advice: str


def retry(letter: Letter, *, now: datetime) -> Change | NothingToRetry:
    """The hint that asks for a letter's order anew; the same each time except for `now`.

    A fetch that answers the original hint, or that began after the letter, answers this hint as well:
    retrying twice costs no second call.
    """
    if letter.tid is None or letter.seller_id is None:
        return NothingToRetry(_advice(letter))
    hint = letter.hint
    again = Change(
        seller_id=letter.seller_id,
        tid=letter.tid,
        event=EVENT if hint is None else hint.event,
        occurred_at=letter.at if hint is None else hint.occurred_at,
        settled_after=letter.at if hint is None else hint.settled_after,
        modified=None if hint is None else hint.modified,
        received_at=now,
        source=Source.OPERATOR,
        reason=f"dead letter {letter.id}",
    )
    for kind, part in () if hint is None else named.parts(hint):
        again = named.naming(again, kind, Named(part.id))
    return again


def _advice(letter: Letter) -> str:
    if letter.reason == "unreadable_export_line" and letter.seller_id is not None:
        return (
            "a line of the export that names no order, without which the bulk start is not certified: see it "
            f"by `topsync deadletter show {letter.id} --original`, and ask the platform about it"
        )
    if letter.seller_id is not None:
        start, end = (platform_time.format(moment) for moment in (letter.at - REPLAY_MARGIN, letter.at))
        return (
            f"it names no order; what its seller changed then: `topsync replay --seller {letter.seller_id} "
            f"--from '{start}' --to '{end}'`"
        )
    if letter.tid is not None:
        return "it does not say whose order it is; the sweeps of its seller bring what is missing"
    return "it names no order; what was missed is in its seller's lists, and the sweeps bring it"
