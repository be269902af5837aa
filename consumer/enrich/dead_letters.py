"""Dead letters on their way from a batch to the topic: an order whose letter is open gets no second one."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from consumer.enrich.dead_letter_share import RecordOutcome
from schemas import cloud_events
from topsync.base import metrics, telemetry
from topsync.store.open_letters import OpenLetter, Subject
from topsync.stream.records import Record

log = telemetry.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What cannot be read or had, ready to be published.

    Attributes:
        subject: what it is about; none where that is a record and no order.
        outcome: for the limit of the share that may die; none where it says nothing of us.
    """

    record: Record
    reason: str
    detail: str
    seller_id: int | None
    subject: Subject | None
    outcome: RecordOutcome | None

    def tell(self) -> None:
        """Count it and log it: it will be published."""
        metrics.DEAD_LETTERS.labels(self.reason).inc()
        about = self.subject
        log.warning(
            "set aside",
            reason=self.reason,
            detail=self.detail,
            tid=about and about.tid,
            refund_id=(about and about.refund_id) or None,
            source=cloud_events.attributes(self.record.headers)["source"],
        )

    def opened(self) -> OpenLetter | None:
        """What the table has to know of it once the topic has it."""
        if self.subject is None:
            return None
        event_id = cloud_events.attributes(self.record.headers)["id"]
        return OpenLetter(self.subject, event_id, self.seller_id)


def first_ones(letters: Iterable[DeadLetter], open_already: Set[Subject]) -> list[DeadLetter]:
    """The letters but for those whose subject has one that is open, each subject once. Pure."""
    told, first = set(open_already), []
    for letter in letters:
        if letter.subject is None or letter.subject not in told:
            first.append(letter)
        if letter.subject is not None:
            told.add(letter.subject)
    return first
