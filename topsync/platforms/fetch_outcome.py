"""What to do with what a platform answers about one object, for every kind: one decision, without I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from schemas import platform_time
from schemas.platform_object import WireForm
from topsync.model.kind import Kind
from topsync.model.known import Known
from topsync.model.need import Need
from topsync.model.refetch import (
    DETAIL_BEHIND,
    INCOMPLETE_ANSWER,
    MODIFIED_AHEAD,
    NO_SESSION,
    NOT_THERE,
    PLATFORM_UNAVAILABLE,
    SESSION_REFUSED,
    UNREADABLE_ANSWER,
)
from topsync.platforms.port import (
    DetailAnswer,
    Flaw,
    NotThere,
    PlatformAwayError,
    Refused,
    Shown,
    Unreadable,
)

UNKNOWN_SELLER: Final = "unknown_seller"
"""The reason where a hint names a seller that was never added. That is no failure of ours."""


@dataclass(frozen=True, slots=True)
class NoSession:
    """Nobody can be asked: the seller has no session that may be used."""

    seller_is_known: bool
    """It is paused or expired, and its work waits for it; otherwise it was never added."""


@dataclass(frozen=True, slots=True)
class SessionRefused:
    """The platform refused the seller's session, and there is no other."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No usable answer came."""

    error: PlatformAwayError


Fetched = DetailAnswer | NoSession | SessionRefused | Unavailable
"""All that can come of fetching one object."""


@dataclass(frozen=True, slots=True)
class Take:
    """It is a version."""

    value: WireForm
    is_old_news: bool = False
    """Ask again all the same: the platform reported a change, and shows what was known before."""


@dataclass(frozen=True, slots=True)
class AskAgain:
    """The platform does not show it now as it has promised."""

    reason: str
    """A fixed word for counting."""
    original: bytes | None = field(default=None, repr=False)
    """What came, where that was no version."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """Asking again would not help: a dead letter."""

    reason: str
    """A fixed word for counting."""
    detail: str
    """Nothing of the object."""
    original: bytes | None = field(default=None, repr=False)
    """What came, where that was something."""


@dataclass(frozen=True, slots=True)
class PassOver:
    """Nothing is to be done about it."""


@dataclass(frozen=True, slots=True)
class PlatformIsAway:
    """The platform may be away for everybody: whether others were served decides."""

    error: PlatformAwayError


FetchOutcome = Take | AskAgain | SetAside | PassOver | PlatformIsAway


@dataclass(frozen=True, slots=True)
class FetchRules:
    """In what the kinds differ."""

    kind: Kind
    """What leads is no part of anything else that is fetched beside it: an outage is judged by it, and it
    speaks for its seller."""
    asks_again_unreadable: bool
    """An answer without the object, or without all of it, is asked for again before it is set aside."""

    @property
    def leads(self) -> bool:
        """Whether everything else is a part of it."""
        return self.kind.leads


def judge(
    fetched: Fetched, need: Need, known: Known | None, rules: FetchRules, *, latest_now: datetime
) -> FetchOutcome:
    """What to do with what came of fetching something for this need. Pure.

    `known` is what was stored before; `latest_now` is the latest that the platform's time can be.
    """
    match fetched:
        case Shown():
            wrong = objection(
                fetched, rules.kind, order_id=need.tid, promised=need.modified, latest_now=latest_now
            )
            return wrong or Take(fetched.value, is_old_news(need, known, fetched.modified))
        case NotThere():
            return PassOver() if rules.leads and need.by_part_alone else AskAgain(NOT_THERE)
        case Unreadable():
            return _unreadable(fetched, rules)
        case Refused(detail):
            return SetAside(rules.kind.refused, detail)
        case NoSession(seller_is_known=True):
            return AskAgain(NO_SESSION)
        case NoSession():
            # Its leading object's dead letter speaks for a part, too.
            return SetAside(UNKNOWN_SELLER, "no such seller was ever added") if rules.leads else PassOver()
        case SessionRefused():
            return AskAgain(SESSION_REFUSED)
        case Unavailable(error):
            return PlatformIsAway(error) if rules.leads else AskAgain(PLATFORM_UNAVAILABLE)


def objection(
    shown: Shown, kind: Kind, *, order_id: int, promised: datetime | None, latest_now: datetime
) -> AskAgain | SetAside | None:
    """What speaks against taking what is shown for a version of an object of that order. Pure.

    `promised` is the `modified` that it is known to have reached.
    """
    if shown.order_id != order_id:
        if kind.leads:
            return SetAside(UNREADABLE_ANSWER, "the answer holds another order")
        # Its one writer is somebody else: that order shows it, or a list names it.
        return SetAside(kind.of_another_order, f"the {kind} is one of another order")
    if shown.modified > latest_now:
        # Taken for a version, it would hide every change until then.
        return AskAgain(MODIFIED_AHEAD, shown.original())
    if promised is not None and shown.modified < promised:
        return AskAgain(DETAIL_BEHIND)
    return None


def is_old_news(need: Need, known: Known | None, fetched: datetime) -> bool:
    """Whether a fetch for a pushed hint brought nothing new although a change was reported.

    A message promises no `modified`, so a stale answer to it shows only in this: the state was known
    before, and is older than the second in which the platform reported the change. There may still have
    been nothing to bring, as with a second message about one change.
    """
    if need.hinted_at is None or known is None or need.modified is not None:
        return False
    return fetched <= known.modified and fetched < platform_time.floor_to_second(need.hinted_at)


def _unreadable(answer: Unreadable, rules: FetchRules) -> AskAgain | SetAside:
    if rules.asks_again_unreadable:
        match answer.flaw:
            case Flaw.NO_OBJECT:
                return AskAgain(UNREADABLE_ANSWER, answer.original)
            case Flaw.INCOMPLETE:
                return AskAgain(INCOMPLETE_ANSWER, answer.original)
            case Flaw.MALFORMED:
                pass
    return SetAside(UNREADABLE_ANSWER, answer.detail, answer.original or None)
