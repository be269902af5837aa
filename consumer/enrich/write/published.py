"""What a transaction publishes beside dead letters and offsets."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from topsync.deadletters.box import DeadLetter
from topsync.model.kind import Kind
from topsync.model.unpublished import Unpublished
from topsync.store.erasures import Tombstone

AnyUnpublished: TypeAlias = "Unpublished[Any]"


@dataclass(slots=True)
class Published:
    """What a transaction has published, and the tables do not know yet."""

    versions: defaultdict[Kind, list[AnyUnpublished]] = field(default_factory=lambda: defaultdict(list))
    tombstones: list[Tombstone] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)

    @classmethod
    def of(cls, kind: Kind, versions: list[AnyUnpublished]) -> Published:
        """Versions of the same kind."""
        return cls(defaultdict(list, {kind: versions}))

    @property
    def count(self) -> int:
        """How many versions."""
        return sum(map(len, self.versions.values()))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to note."""
        return not (self.count or self.tombstones or self.letters)

    def join(self, later: Published) -> None:
        """Take in what was published after this."""
        for kind, versions in later.versions.items():
            self.versions[kind] += versions
        self.tombstones += later.tombstones
        self.letters += later.letters
