"""The enricher's part in erasing a seller: what asks for it, whose records are skipped, the tombstones.

The rows and their rules are in `topsync/store/erasures.py`; the writer of the partition does it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from aiokafka import ConsumerRecord

from consumer.enrich.kinds.catalogue import KINDS
from schemas.cloud_events import ERASURE_TYPE
from schemas.erasure import Erasure
from topsync.store import erasures
from topsync.store.database import Pool
from topsync.store.erasures import Tombstone
from topsync.stream import records
from topsync.stream.records import Record
from topsync.stream.topics import Registry

HELD_SECONDS = 1.0
"""How late it may be noticed that a seller is erased. Until then calls are spent, and nothing is stored."""

_REQUEST = ("ce_type", ERASURE_TYPE.encode())


def is_request(record: ConsumerRecord[bytes, bytes]) -> bool:
    """Whether a record of `changes` asks for an order to be erased."""
    return _REQUEST in record.headers


def read_request(record: ConsumerRecord[bytes, bytes]) -> Erasure:
    """The request in such a record.

    Raises:
        ValidationError: the record's value is no such request.
    """
    return Erasure.model_validate_json(record.value or b"")


def seller_of(record: ConsumerRecord[bytes, bytes]) -> int | None:
    """Whose snapshot a record is, without reading its value; None where no header says it."""
    for name, value in record.headers:
        if name == "ce_sellerid":
            return records.id_of(value)
    return None


@dataclass(slots=True)
class ErasedSellers:
    """Which sellers are erased, as this process sees it."""

    _held: frozenset[int] = frozenset()
    _read_at: float = float("-inf")

    async def among(self, pool: Pool, seller_ids: Iterable[int]) -> set[int]:
        """Which of these sellers are erased.

        A seller that is erased may be missing in the answer for a moment. A seller that is back is never in
        it: its records would be lost.
        """
        now = time.monotonic()
        if now - self._read_at > HELD_SECONDS:
            self._read_at = now
            self._held = frozenset(await erasures.erased_sellers(pool))
        suspects = self._held.intersection(seller_ids)
        return await erasures.erased_sellers(pool, suspects) if suspects else set()


def record_of(tombstone: Tombstone, topics: Registry, *, published_at: datetime) -> Record:
    """The record by which subscribers learn that something was erased."""
    return records.tombstone(
        topics.versions[tombstone.kind].name,
        type_=KINDS[tombstone.kind].events.erased,
        id_=tombstone.id,
        seller_id=tombstone.seller_id,
        revision=tombstone.revision,
        erased_at=tombstone.erased_at,
        published_at=published_at,
    )
