"""The kinds of things that topsync copies, and the names that follow from a kind's word."""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from typing import Final


class Kind(StrEnum):
    """What a seller has on a platform. A third kind is a member here; what else it takes is said in
    `docs/how-to/add-a-kind.md`.

    The first *leads*: everything else is a part of it, and belongs to one order.
    """

    ORDER = "order"
    REFUND = "refund"

    @property
    def leads(self) -> bool:
        """Whether everything else is a part of this kind."""
        return self is Kind.ORDER

    @property
    def plural(self) -> str:
        """The name of its table, of its compacted topic in the registry, and of its list in the ledger."""
        return f"{self.value}s"

    @property
    def refused(self) -> str:
        """The reason of the dead letter where the platform refuses one."""
        return "refused" if self.leads else f"{self.value}_refused"

    @property
    def of_another_order(self) -> str:
        """The reason of the dead letter where the platform shows a part that belongs to another order."""
        return f"{self.value}_of_another_order"

    @classmethod
    def known(cls, word: str) -> Kind | None:
        """The kind with this word; None where only a newer release, which may run beside us, has it."""
        return cls(word) if word in cls._value2member_map_ else None

    @classmethod
    def known_plural(cls, plural: str) -> Kind | None:
        """The same by the name of its table and topic."""
        return next((kind for kind in cls if kind.plural == plural), None)

    @cached_property
    def id_name(self) -> str:
        """The field of a hint that names one, and the column of its table."""
        return "tid" if self.leads else f"{self.value}_id"

    @cached_property
    def modified_name(self) -> str:
        """The field of a hint with the `modified` that it is known to have reached."""
        return "modified" if self.leads else f"{self.value}_modified"


IN_WORDS: Final = " and ".join(kind.plural for kind in Kind)
"""All of them, for people."""

PARTS: Final = tuple(kind for kind in Kind if not kind.leads)
"""The kinds that belong to an order."""
