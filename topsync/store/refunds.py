"""Refunds: the version-guarded table behind the topic, as `topsync.store.orders` is for orders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, Final, TypeAlias

from schemas import content, refund_transitions
from schemas.change import Source
from schemas.delta import Delta
from schemas.platform_object import WireForm
from schemas.refund import Refund
from schemas.refund_transitions import RefundTransition
from topsync.model.kind import Kind
from topsync.model.unpublished import Unpublished
from topsync.store import versions
from topsync.store.versions import VersionTable

UnpublishedRefund: TypeAlias = "Unpublished[RefundTransition]"


@dataclass(frozen=True)
class RefundVersion(versions.Version):
    """A full refund as it was read from the platform, ready to be written."""

    kind = Kind.REFUND

    seller_id: int
    refund: WireForm
    fetched_at: datetime
    source: str

    def is_older_than(self, other: RefundVersion) -> bool:
        """Within the second of `modified` the platform's own version decides, where both show it."""
        if self.modified != other.modified:
            return self.modified < other.modified
        own, others = self.platform_version, other.platform_version
        if own is not None and others is not None and own != others:
            return own < others
        return self.fetched_at < other.fetched_at

    @cached_property
    def key(self) -> int:
        """Its `refund_id`."""
        return self.refund.id("refund_id")

    @cached_property
    def tid(self) -> int:
        """Its order's id."""
        return self.refund.id("tid")

    @cached_property
    def oid(self) -> int:
        """Its order's line."""
        return self.refund.id("oid")

    @property
    def created(self) -> datetime | None:
        """When the buyer asked for it."""
        return self.refund.time("created") if "created" in self.content else None

    @cached_property
    def modified(self) -> datetime:
        """When the platform changed it last."""
        return self.refund.time("modified")

    @property
    def platform_version(self) -> int | None:
        """Its `refund_version`."""
        return self.content.get("refund_version")

    @property
    def status(self) -> str:
        """The platform's word for how far it is."""
        return str(self.content["status"])

    @property
    def content(self) -> Mapping[str, Any]:
        """What topic and table have of it: JSON, read."""
        return self.refund.content

    @property
    def happened(self) -> tuple[str, ...] | None:
        """See `WireForm`."""
        return self.refund.happened

    @property
    def wire(self) -> str:
        """The JSON of topic and table."""
        return self.refund.text

    @property
    def may_be_odd(self) -> bool:
        """See `WireForm`."""
        return self.refund.may_be_odd

    @cached_property
    def content_hash(self) -> bytes:
        """See `schemas.content`."""
        return content.hash_of(self.refund)


class RefundTable(VersionTable[RefundVersion, RefundTransition]):
    """The table `refunds`."""

    kind = Kind.REFUND
    value = "refund"
    own: ClassVar[Mapping[str, str]] = {"tid": "tid", "oid": "oid", "refund_version": "platform_version"}
    words = RefundTransition
    model = Refund

    def version(self, seller_id: int, form: WireForm, fetched_at: datetime, source: str) -> RefundVersion:
        """See `VersionTable`."""
        return RefundVersion(seller_id, form, fetched_at, source)

    def _step(
        self, before: Mapping[str, Any] | None, after: Mapping[str, Any], source: Source
    ) -> Delta[RefundTransition]:
        return refund_transitions.step(before, after, source)


TABLE: Final = RefundTable()
