"""What differs between a list of the platform and our copy, told from what is only on the move. Pure.

Orders and refunds change while they are compared, and a change needs time: the list shows it late, by up to
the visibility allowance, and the copy has it later still. So everything that seems to differ is looked at
twice, with a pause between that is at least as long as both together. It differs only where it was in doubt
for the same reason both times, and our row has not moved meanwhile. Why that reports nothing that arrives
within the pause:

- *missing*, *behind*: what the first list showed had happened before it. After the pause the copy has it; so
  the row is there by then, or has moved.
- *unlisted*: our row says that it belongs to the day, and the list lacks it. If it only appears late, the
  second list has it. If it has left the day because it changed, as refunds do that are listed by change, then
  the change was before the first look, and has moved our row; or it was after it, and then the detail, which
  is asked for in the end, shows a `modified` younger than the first look.
- *other*: the list shows our `modified` and another status. Lists may be wrong; the detail decides.

A copy that is newer than the list does not differ: lists lag.

Why it misses nothing that stays as it is: of whatever is wrong, the platform's day has it in its list, and
the day by which our row is dated has the row. Whichever of the two days is compared by its ids finds it: as
missing or behind by the list's day, as unlisted by ours. `tests/verify/test_differences.py` lets Hypothesis
look for an order of events that breaks either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import cache
from typing import Any, Final, get_args

from schemas.platform_object import PlatformObject
from schemas.types import Money
from topsync.model.copy_state import CopyState
from topsync.model.difference import DifferenceKind
from topsync.model.span import Span
from topsync.verify.agreement import Agreement, PublishedState, ShownObject, agreement

NOT_PUBLISHED: Final = "stored and not published"
NOT_ASKED: Final = "one of many: not asked for by itself"
UNREADABLE: Final = "the platform does not show it in a form that can be read"

MAX_NAMED: Final = 8
"""Fields that a note names."""


@dataclass(frozen=True, slots=True)
class ListedState:
    """An order or refund in a list of the platform."""

    modified: datetime | None
    """None where the listed time lies in the future: then it only shows that it is there."""
    status: str | None = None
    """None where the list does not say."""
    created: datetime | None = None
    tid: int | None = None
    """Its order; None where it is an order."""


class Doubt(Enum):
    """Why something seems to differ."""

    MISSING = "missing"
    BEHIND = "behind"
    OTHER = "other"
    """Another status with the same `modified`."""
    UNPUBLISHED = "unpublished"
    UNLISTED = "unlisted"


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Something that seems to differ, as it was at the first look."""

    id: int
    doubt: Doubt
    listed: ListedState | None
    copy: CopyState | None

    @property
    def created(self) -> datetime | None:
        """When it was created, by the list or by the table."""
        shown = [state.created for state in (self.listed, self.copy) if state is not None]
        return next((moment for moment in shown if moment is not None), None)


def doubt(listed: ListedState | None, copy: CopyState | None) -> Doubt | None:
    """Why these seem to differ; None where they do not."""
    if listed is None:
        return None if copy is None else Doubt.UNLISTED
    if copy is None:
        return Doubt.MISSING
    if listed.modified is not None and copy.modified < listed.modified:
        return Doubt.BEHIND
    if copy.modified == listed.modified and listed.status not in (None, copy.status):
        return Doubt.OTHER
    return None if copy.is_published else Doubt.UNPUBLISHED


def first_look(listed: Mapping[int, ListedState], copies: Mapping[int, CopyState]) -> Iterator[Doubtful]:
    """What seems to differ. `copies` has the rows of the day, and those of all that is listed."""
    for id_ in sorted(listed.keys() | copies.keys()):
        state, copy = listed.get(id_), copies.get(id_)
        if (why := doubt(state, copy)) is not None:
            yield Doubtful(id_, why, state, copy)


def second_look(
    candidates: Iterable[Doubtful],
    listed: Mapping[int, ListedState],
    copies: Mapping[int, CopyState],
) -> Iterator[Doubtful]:
    """Of these, what still seems to differ after the pause, for the same reason and with an unmoved row."""
    for before in candidates:
        state, copy = listed.get(before.id), copies.get(before.id)
        if copy == before.copy and doubt(state, copy) is before.doubt:
            yield Doubtful(before.id, before.doubt, state, copy)


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How an object in full differs from our row."""

    what: DifferenceKind
    note: str


class InFull(Enum):
    """What the platform's object in full says of a doubt, where it is no finding."""

    SAME = "same"
    """It is as our row, or our row is newer."""
    MOVING = "moving"
    """The object or our row has changed so lately that nothing can be said."""
    NOT_THERE = "not there"
    UNREADABLE = "unreadable"
    """The platform refuses it, or shows it in a form that cannot be read."""


def finding(
    model: type[PlatformObject], truth: ShownObject, copy: ShownObject, *, settled_before: datetime
) -> Conclusion | InFull:
    """How the platform's object differs from our row.

    What the platform changed at `settled_before` or later may still be on its way to us.
    """
    shown_at, ours = truth.state.modified, copy.state.modified
    if shown_at >= settled_before:
        return InFull.MOVING
    if shown_at < ours:
        return InFull.SAME
    fields = differing(truth.written, copy.written)
    if shown_at > ours:
        return Conclusion(DifferenceKind.BEHIND, _named(fields))
    as_published = PublishedState(ours, copy.digest)
    if agreement(model, truth, copy, as_published) is not Agreement.NONE:
        return InFull.SAME
    amounts = money_names(model)
    sums = [name for name in fields if name in amounts]
    return (
        Conclusion(DifferenceKind.SUM, _named(sums))
        if sums
        else Conclusion(DifferenceKind.BEHIND, _named(fields))
    )


def conclusion(doubt: Doubt, how: Conclusion | InFull | None, note: str = "") -> Conclusion | None:
    """What to make of a doubt that outlasted the second look; None where nothing differs.

    `how` is what the object in full says, None where it was not asked for; `note` is what is known of it.
    """
    match doubt:
        case Doubt.MISSING:
            return Conclusion(DifferenceKind.MISSING, "")
        case Doubt.UNPUBLISHED:
            return Conclusion(DifferenceKind.BEHIND, NOT_PUBLISHED)
        case Doubt.BEHIND:
            return Conclusion(DifferenceKind.BEHIND, how.note if isinstance(how, Conclusion) else "")
        case Doubt.OTHER:
            if how is None:
                return Conclusion(DifferenceKind.BEHIND, "status")
            return how if isinstance(how, Conclusion) else None
        case Doubt.UNLISTED:
            return _of_unlisted(how, note)


def _of_unlisted(how: Conclusion | InFull | None, note: str) -> Conclusion | None:
    match how:
        case Conclusion():
            return how
        case InFull.MOVING:
            return None
        case InFull.NOT_THERE:
            return Conclusion(DifferenceKind.UNKNOWN, "")
        case InFull.SAME:
            return Conclusion(DifferenceKind.UNLISTED, note)
        case InFull.UNREADABLE:
            return Conclusion(DifferenceKind.UNLISTED, UNREADABLE)
        case None:
            return Conclusion(DifferenceKind.UNLISTED, NOT_ASKED)


def differing(truth: Mapping[str, Any], copy: Mapping[str, Any], *, within: str = "") -> list[str]:
    """The names of the fields that differ, those of lines and other parts as `orders.payment`."""
    found: dict[str, None] = {}
    for name in sorted(truth.keys() | copy.keys()):
        shown, ours = truth.get(name), copy.get(name)
        if shown == ours:
            continue
        if isinstance(shown, list) and isinstance(ours, list) and len(shown) == len(ours):
            for one, other in zip(shown, ours, strict=True):
                if isinstance(one, Mapping) and isinstance(other, Mapping):
                    found |= dict.fromkeys(differing(one, other, within=f"{within}{name}."))
                elif one != other:
                    found[f"{within}{name}"] = None
        else:
            found[f"{within}{name}"] = None
    return list(found)


@cache
def money_names(model: type[PlatformObject]) -> frozenset[str]:
    """The fields of a model that hold amounts, those of its parts too, named as `differing` names them."""
    own = {name for name, field in model.model_fields.items() if Money in get_args(field.annotation)}
    of_parts = {f"{part}.{name}" for part, inner in model.parts.items() for name in money_names(inner)}
    return frozenset(own | of_parts)


def _named(fields: list[str]) -> str:
    more = [f"and {len(fields) - MAX_NAMED} more"] if len(fields) > MAX_NAMED else []
    return ", ".join(fields[:MAX_NAMED] + more)


def windows(
    candidates: Iterable[Doubtful], whole: Span, *, joined_within: timedelta, at_most: int
) -> list[Span]:
    """Windows of creation that hold all candidates again: few and short ones, or the whole day."""
    moments = sorted(moment for each in candidates if (moment := each.created) is not None)
    found: list[Span] = []
    for moment in moments:
        if not whole.start <= moment <= whole.end:
            return [whole]
        if found and moment - found[-1].end <= joined_within:
            found[-1] = Span(found[-1].start, moment)
        else:
            found.append(Span(moment, moment))
    return found if len(found) <= at_most else [whole]
