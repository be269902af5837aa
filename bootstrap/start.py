"""What the parts of a seller's bulk start share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bootstrap.counted_spans import LongestCount
from bootstrap.progress import SellerProgress
from bootstrap.pulse import Pulse
from bootstrap.turns import LoadingTurns
from schemas import platform_time
from schemas.change import Change, Source
from topsync.base.clock import ServerClock
from topsync.base.settings import BootstrapSettings
from topsync.coverage.created import CreatedLister
from topsync.coverage.pull import Puller
from topsync.model import named
from topsync.model.kind import Kind
from topsync.model.named import Named
from topsync.model.slice import Slice
from topsync.platforms.detail_task_port import DetailTasks
from topsync.platforms.export_port import BulkExport
from topsync.sellers.sessions import Account
from topsync.store.database import Pool
from topsync.store.export_hints import ExportHints
from topsync.store.export_requests import ExportRequests
from topsync.store.slices import SliceRow
from topsync.stream import records
from topsync.stream.records import Record
from topsync.stream.topics import Registry


@dataclass(frozen=True, slots=True)
class Start:
    """A seller's bulk start: who, and with what."""

    account: Account
    puller: Puller
    bulk_export: BulkExport | None
    """None: the platform has none."""
    created: CreatedLister | None
    """None: the platform does not list orders by creation."""
    detail_tasks: DetailTasks | None
    """None: the platform brings details one by one only."""
    hints: ExportHints
    topics: Registry
    settings: BootstrapSettings
    requests: ExportRequests
    """Turns to ask for an export."""
    pulse: Pulse
    """Of the writers; one for all sellers of the process."""
    loading: LoadingTurns
    """For files that are downloaded and loaded."""
    pulling: LoadingTurns
    """For what is listed and waited for: each keeps lists in memory, and the database busy."""
    longest_count: LongestCount
    """One for all sellers of the process."""
    progress: SellerProgress

    @property
    def seller_id(self) -> int:
        """Whose bulk start it is."""
        return self.account.seller.seller_id

    @property
    def pool(self) -> Pool:
        """The database."""
        return self.puller.pool

    @property
    def clock(self) -> ServerClock:
        """The platform's clock."""
        return self.puller.clock

    def file_of(self, of: Slice) -> Path:
        """Where the file of a slice lies, from its download until it is loaded."""
        return self.settings.export_file(self.seller_id, of.number)

    async def hint(self, kind: Kind, rows: Iterable[SliceRow], *, reason: str) -> None:
        """Have these objects fetched by their ids.

        Raises:
            PublishError: not all were handed over; doing it again is harmless.
        """
        await self.puller.producer.publish([self.hint_record(kind, row, reason=reason) for row in rows])

    def hint_record(self, kind: Kind, row: SliceRow, *, reason: str) -> Record:
        """The record for `changes` that has an object fetched by its id."""
        now = self.clock.now()
        order = Change(
            seller_id=self.seller_id,
            tid=row.order_id,
            event="listed",
            occurred_at=row.modified or now,
            settled_after=now if row.modified is None else row.modified + platform_time.RESOLUTION,
            received_at=now,
            source=Source.BOOTSTRAP,
            reason=reason,
        )
        return records.change(
            self.topics.changes.name, named.naming(order, kind, Named(row.id, row.modified))
        )
