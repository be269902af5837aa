"""Orders: the version-guarded table behind the topic, and who may write a partition of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, Final, TypeAlias

from schemas import content, transitions
from schemas.change import Source
from schemas.delta import Delta
from schemas.platform_object import WireForm
from schemas.trade import Trade
from schemas.transitions import Order, Transition
from topsync.model.kind import Kind
from topsync.model.unpublished import Unpublished
from topsync.store import versions
from topsync.store.database import Pool, sql
from topsync.store.versions import VersionTable

UnpublishedOrder: TypeAlias = "Unpublished[Transition]"


@dataclass(frozen=True)
class OrderVersion(versions.Version):
    """A full order as it was read from the platform, ready to be written."""

    kind = Kind.ORDER

    seller_id: int
    trade: WireForm
    fetched_at: datetime
    source: str

    def is_older_than(self, other: OrderVersion) -> bool:
        """Fetched at the same moment, the greater hash wins."""
        own = (self.modified, self.fetched_at, self.content_hash)
        return own < (other.modified, other.fetched_at, other.content_hash)

    @cached_property
    def key(self) -> int:
        """Its `tid`."""
        return self.trade.id("tid")

    @property
    def tid(self) -> int:
        """Itself."""
        return self.key

    @property
    def oid(self) -> None:
        """No line of an order."""

    @property
    def created(self) -> datetime:
        """When the buyer placed it."""
        return self.trade.time("created")

    @cached_property
    def modified(self) -> datetime:
        """When the platform changed it last."""
        return self.trade.time("modified")

    @property
    def status(self) -> str:
        """The platform's word for how far it is."""
        return str(self.content["status"])

    @property
    def content(self) -> Order:
        """What topic and table have of it: JSON, read."""
        return self.trade.content

    @property
    def happened(self) -> tuple[str, ...] | None:
        """See `WireForm`."""
        return self.trade.happened

    @property
    def wire(self) -> str:
        """The JSON of topic and table."""
        return self.trade.text

    @property
    def may_be_odd(self) -> bool:
        """See `WireForm`."""
        return self.trade.may_be_odd

    @cached_property
    def content_hash(self) -> bytes:
        """See `schemas.content`."""
        return content.hash_of(self.trade)


class OrderTable(VersionTable[OrderVersion, Transition]):
    """The table `orders`."""

    kind = Kind.ORDER
    value = "trade"
    own: ClassVar[Mapping[str, str]] = {}
    words = Transition
    model = Trade

    def version(self, seller_id: int, form: WireForm, fetched_at: datetime, source: str) -> OrderVersion:
        """See `VersionTable`."""
        return OrderVersion(seller_id, form, fetched_at, source)

    def _step(
        self, before: Mapping[str, Any] | None, after: Mapping[str, Any], source: Source
    ) -> Delta[Transition]:
        return transitions.step(before, after, source)


TABLE: Final = OrderTable()


@dataclass(frozen=True, slots=True)
class RefundLine:
    """What an order shows of the latest refund of any of its lines."""

    tid: int
    fetched_at: datetime
    """The order's."""
    oid: int
    refund_id: int | None
    refund_status: str | None


async def refund_lines(pool: Pool, tids: Iterable[int]) -> list[RefundLine]:
    """What these stored orders show of refunds, line by line."""
    return [RefundLine(*row) for row in await pool.fetch(sql("orders.refund_lines"), list(tids))]


async def take_over(pool: Pool, partition: int, owner: str) -> int:
    """Become the only writer of a partition's orders and their refunds; returns the new epoch.

    A statement of the former owner that is under way finishes first; later statements write nothing.
    """
    epoch = await pool.fetchval(sql("orders.take_over"), partition, owner)
    return int(epoch)


async def newest_epoch(pool: Pool, partition: int) -> int:
    """The epoch of a partition's present owner; there must have been an owner."""
    return int(await pool.fetchval(sql("orders.newest_epoch"), partition))


async def count_by_seller(pool: Pool, only: int | None = None) -> dict[int, int]:
    """How many orders are stored of each seller that has any; or only of one."""
    rows = await pool.fetch(sql("orders.count_by_seller"), only)
    return {row["seller_id"]: row["orders"] for row in rows}


async def sellers_of(pool: Pool, tids: Iterable[int]) -> dict[int, int]:
    """Whose these orders are, of those that are stored."""
    rows = await pool.fetch(sql("orders.sellers_of"), list(tids))
    return {row["tid"]: row["seller_id"] for row in rows}
