"""Something that a batch wants to be fetched, and what is noted where the fetch fails. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from consumer.enrich.kinds.kind import AnyKind
from consumer.enrich.read.routing import ReadHint, origin_of
from schemas.change import Change
from topsync.deadletters import box
from topsync.deadletters.box import DeadLetter, Original
from topsync.model import named
from topsync.model.named import Named
from topsync.model.need import Need
from topsync.model.refetch import LINGERING, Lingering, OrderPart, Refetch
from topsync.store.open_letters import Subject
from topsync.stream import records
from topsync.stream.topics import Registry


@dataclass(frozen=True, slots=True)
class Wanted:
    """An order, or a part of it, to be fetched."""

    kind: AnyKind
    id: int
    need: Need
    hint: ReadHint | None = None
    """The last hint about the order, where the order itself is wanted: a part may come without any hint."""

    def later(
        self, reason: str, original: bytes | None = None, *, settled_after: datetime | None = None
    ) -> Refetch:
        """What is noted so that it is asked for again; with `settled_after`, not before that moment.

        A row is an order's: what came in place of a part is not kept there.
        """
        need, change = self.need, None if self.hint is None else self.hint.change
        return Refetch(
            tid=need.tid,
            seller_id=need.seller_id,
            event=self.kind.kind.value if change is None else change.event,
            occurred_at=need.hinted_at or (need.settled_after if change is None else change.occurred_at),
            settled_after=max(need.settled_after, settled_after or need.settled_after),
            modified=need.modified if self.kind.leads else None,
            source=need.source.value,
            reason=reason,
            answer=original if self.kind.leads else None,
            parts=() if self.kind.leads else (OrderPart(self.kind.kind, self.id),),
        )

    def lingering(self, until: datetime) -> Lingering:
        """Of messages that wait, the latest counts: a state that was fetched after it answers all of them."""
        later = self.later(LINGERING)
        return Lingering(replace(later, occurred_at=self.need.reported_at or later.occurred_at), until)

    def letter(
        self, topics: Registry, reason: str, detail: str, original: bytes | None, *, at: datetime
    ) -> DeadLetter:
        """A dead letter about it: with what came, or else with the hint that asks for it."""
        need = self.need
        subject = Subject(need.tid, self.kind.kind, self.id, reason)
        if self.hint is not None:
            record = self.hint.record
            kept, origin = Original.of(record, original), origin_of(record)
        elif original is not None:
            kept, origin = Original(original, records.key_of(need.tid)), self.kind.origin
        else:
            asking = records.change(topics.changes.name, self._asking(at))
            kept, origin = Original(asking.value, asking.key, asking.headers), self.kind.origin
        return box.letter(
            topics, reason, detail, kept, at=at, origin=origin, seller_id=need.seller_id, subject=subject
        )

    def _asking(self, at: datetime) -> Change:
        """The hint that would ask for it again."""
        asking = Change(
            seller_id=self.need.seller_id,
            tid=self.need.tid,
            event=self.kind.kind.value,
            occurred_at=self.need.hinted_at or self.need.settled_after,
            settled_after=self.need.settled_after,
            received_at=at,
            source=self.need.source,
        )
        return named.naming(asking, self.kind.kind, Named(self.id, self.need.modified))
