"""What of refunds a batch asks to be written. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from consumer.enrich.dead_letters import DeadLetter
from topsync.base import metrics
from topsync.model.refetch import Refetch
from topsync.store.refunds import RefundVersion, UnpublishedRefund


@dataclass(slots=True)
class RefundPart:
    """What of refunds a batch asks to be written. Every refund is one of an order that the batch is about."""

    versions: dict[int, RefundVersion] = field(default_factory=dict)
    """The newest version of each refund."""
    ahead: list[UnpublishedRefund] = field(default_factory=list)
    """What is to be published of the versions, once they are stored."""
    hinted_at: dict[int, datetime] = field(default_factory=dict)
    """When the platform first told of the pushed ones."""
    dead_letters: list[DeadLetter] = field(default_factory=list)
    postponed: list[Refetch] = field(default_factory=list)

    def add(self, version: RefundVersion) -> None:
        """Take a version in, unless there is a newer one of the same refund."""
        refund_id = version.refund.refund_id
        other = self.versions.get(refund_id)
        if other is None or _is_older(other, version):
            self.versions[refund_id] = version

    def join(self, later: RefundPart) -> None:
        """Take in what was read after this."""
        for version in later.versions.values():
            self.add(version)
        self.ahead += later.ahead
        self.hinted_at = later.hinted_at | self.hinted_at
        self.dead_letters += later.dead_letters
        self.postponed += later.postponed

    def observe(self, published: Iterable[UnpublishedRefund], *, at: datetime) -> None:
        """Count what was published at that moment, platform time, and how fresh it was."""
        for version in published:
            metrics.REFUNDS_PUBLISHED.inc()
            if hinted_at := self.hinted_at.get(version.key):
                metrics.REFUND_FRESHNESS.observe(max(0.0, (at - hinted_at).total_seconds()))


def _is_older(one: RefundVersion, other: RefundVersion) -> bool:
    """What the table decides by, too (`refunds.sql`): how batches are cut must make no difference."""
    if one.modified != other.modified:
        return one.modified < other.modified
    own, others = one.refund.refund_version, other.refund.refund_version
    if own is not None and others is not None and own != others:
        return own < others
    return one.fetched_at < other.fetched_at
