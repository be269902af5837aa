"""What trying a dead letter again means, without I/O.

Whatever went wrong with an order, the platform's own detail is the authority: so the order is asked for
anew, by a hint in the operator's priority, and never written from what is in the letter. Where a letter
names no order, nothing can be tried; then the answer says what helps instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from schemas import platform_time
from schemas.change import Change, Source
from topsync.deadletters.letters import Letter

EVENT: Final = "retried"
"""In the place of a message's topic, where the letter holds no hint."""

REPLAY_MARGIN: Final = timedelta(minutes=10)
"""Before a letter: what it is about may have happened somewhat earlier."""


@dataclass(frozen=True, slots=True)
class NothingToRetry:
    """Why a letter cannot be tried again, and what to do instead."""

    advice: str


def retry(letter: Letter, *, now: datetime) -> Change | NothingToRetry:
    """The hint that asks for a letter's order anew; the same one each time but for `now`.

    A fetch that answers the original hint, or began after the letter, answers this one: to retry twice
    costs no second call.
    """
    if letter.tid is None or letter.seller_id is None:
        return NothingToRetry(_advice(letter))
    hint = letter.hint
    return Change(
        seller_id=letter.seller_id,
        tid=letter.tid,
        event=EVENT if hint is None else hint.event,
        occurred_at=letter.at if hint is None else hint.occurred_at,
        settled_after=letter.at if hint is None else hint.settled_after,
        modified=None if hint is None else hint.modified,
        refund_id=None if hint is None else hint.refund_id,
        received_at=now,
        source=Source.OPERATOR,
        reason=f"dead letter {letter.id}",
    )


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
