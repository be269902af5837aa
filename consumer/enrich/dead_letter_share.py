"""When too large a share of the records dies, it is us and not the data: then an enricher stops. No I/O.

A wrong release or a changed platform would otherwise turn every order into a dead letter in minutes. One
seller's orders alone must not stop the others: the seller with the most dead records is left out of the
account, unless it is the only seller. Sellers that were never added, or that are away, do not count either.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from topsync.base.errors import OperatorError
from topsync.deadletters.box import DeadLetter
from topsync.platforms.fetch_outcome import UNKNOWN_SELLER


class RecordOutcome(NamedTuple):
    """What became of a record, or of all hints in a batch about one order."""

    seller_id: int | None
    """None: the record does not say whose it is, so the fault is ours."""
    reason: str | None = None
    """Why it is a dead letter; None: it is no dead letter."""


def outcome_of(letter: DeadLetter) -> RecordOutcome | None:
    """What a dead letter says of us; None where it says nothing: of a seller that was never added, or of
    a part of an order, which has rights of its own.
    """
    is_of_a_part = letter.subject is not None and not letter.subject.kind.leads
    if is_of_a_part or letter.reason == UNKNOWN_SELLER:
        return None
    return RecordOutcome(letter.seller_id, letter.reason)


@dataclass(frozen=True, slots=True)
class Limit:
    """Of the last `records`, a share of more than `share` may not be dead; fewer than `least` always may."""

    share: float
    records: int
    least: int


class TooManyDeadLettersError(OperatorError):
    """Too many records die; nothing of the batch that crossed the limit may be written."""


@dataclass(slots=True)
class Share:
    """What became of the last records of a partition, for one ownership."""

    limit: Limit
    _last: deque[RecordOutcome] = field(default_factory=deque)
    _records: Counter[int | None] = field(default_factory=Counter)
    _dead: Counter[int | None] = field(default_factory=Counter)

    def take(self, outcomes: Iterable[RecordOutcome], *, spares_one: bool) -> None:
        """Take the next outcomes into account. With `spares_one`, one seller's records do not count.

        Raises:
            TooManyDeadLettersError: the limit is crossed; what is taken after that means nothing.
        """
        for outcome in outcomes:
            self._add(outcome)
            if outcome.reason is not None and self._is_crossed(spares_one):
                raise TooManyDeadLettersError(self._explain())

    def _add(self, outcome: RecordOutcome) -> None:
        self._last.append(outcome)
        self._count(outcome, 1)
        if len(self._last) > self.limit.records:
            self._count(self._last.popleft(), -1)

    def _count(self, outcome: RecordOutcome, step: int) -> None:
        self._records[outcome.seller_id] += step
        if outcome.reason is not None:
            self._dead[outcome.seller_id] += step

    def _is_crossed(self, spares_one: bool) -> bool:
        dead, records = self._dead.total(), self._records.total()
        if spares_one:
            sellers = [seller_id for seller_id in self._dead if seller_id is not None]
            worst = max(sellers, key=self._dead.__getitem__, default=None)
            if worst is not None:
                dead -= self._dead[worst]
                records -= self._records[worst]
        return dead >= self.limit.least and dead > self.limit.share * records

    def _explain(self) -> str:
        reasons = Counter(outcome.reason for outcome in self._last if outcome.reason is not None)
        counts = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        return (
            f"{reasons.total()} of the last {len(self._last)} records of a partition would be dead letters "
            f"({counts}), more than TOPSYNC_DEAD_LETTER_LIMIT_SHARE={self.limit.share:g} allows. Nothing "
            "is lost: remove the cause, or raise the limit, and start again (docs/operations.md)"
        )
