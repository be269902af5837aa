"""What is odd about orders and refunds that are stored: fields that nobody knows, types that lists lack.

They are stored and published all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from schemas.unknown_fields import unknown_fields
from topsync.model.anomaly import AnomalyKind, Sightings
from topsync.store.versions import Version, VersionTable

AnyTable: TypeAlias = "VersionTable[Any, Any]"


@dataclass(frozen=True, slots=True)
class Oddities:
    """Notes what is odd. Shared by all partitions of a process."""

    sightings: Sightings = field(default_factory=Sightings)
    trade_types: frozenset[str] | None = None
    """The types that the platform's lists are asked for; None: all."""

    def look(self, table: AnyTable, versions: Iterable[Version]) -> None:
        """Look at versions of a table that are about to be stored. Does not block."""
        types = self.trade_types if table.kind.leads else None
        for version in versions:
            if version.may_be_odd:
                for name in unknown_fields(table.model, version.content):
                    self._note(AnomalyKind.UNKNOWN_FIELD, f"{table.kind.value}.{name}", version)
            if types is not None:
                type_ = version.content.get("type")
                if type_ is not None and type_ not in types:
                    self._note(AnomalyKind.UNKNOWN_TYPE, type_, version)

    def _note(self, what: AnomalyKind, name: str, version: Version) -> None:
        self.sightings.note(what, name, seller_id=version.seller_id, tid=version.tid)
