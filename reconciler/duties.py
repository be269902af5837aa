"""Duties: what is done once for all sellers, by a process at a time.

A duty is held like the pulls of a seller, and moves like them. It must bear that a former holder, which stood
still, does a last piece of work beside the present holder before it notices: either what it writes changes
nothing when it is written twice or late, or it writes in `work_leases.fenced`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from reconciler.under_way import UnderWay


class Duty(Protocol):
    """Something that is to be done again and again."""

    async def round(self) -> None:
        """Do what is to be done now, once; it is called again soon after it returns.

        It is cancelled when the process ends, and when the duty went to another process.
        """


@runtime_checkable
class Forgetting(Protocol):
    """A duty whose holder measures something for all."""

    def forget(self) -> None:
        """Forget what was measured: it is not known here any more when the duty is with another process."""


@dataclass(slots=True)
class Duties:
    """The duties that a process knows, and carries out as far as it holds them."""

    known: Mapping[str, Sequence[Duty]]
    """By name. What the same process has to do, side by side, is one duty of several parts."""
    under_way: UnderWay[str]

    def look(self, held: Collection[str]) -> None:
        """Begin a round of each part of a duty that is held and not under way."""
        for name in held:
            for key, part in self._parts(name).items():
                if self.under_way.is_free(key):
                    self.under_way.start(key, part.round)

    def is_idle(self, name: str) -> bool:
        """Whether nothing of a duty is under way."""
        return not any(key in self.under_way for key in self._parts(name))

    async def drop(self, names: Iterable[str]) -> None:
        """Cancel what is under way of these duties, and forget what was measured."""
        gone = list(names)
        await self.under_way.drop(key for name in gone for key in self._parts(name))
        for name in gone:
            for part in self.known[name]:
                if isinstance(part, Forgetting):
                    part.forget()

    def _parts(self, name: str) -> dict[str, Duty]:
        return {f"{name}/{number}": part for number, part in enumerate(self.known[name])}
