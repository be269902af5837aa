"""Chance as a pure function: the same names always give the same numbers.

To seed a `random.Random` for each order would take tens of microseconds; a keyed hash takes one or two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")

_KEPT_FORMS = 64


@lru_cache(maxsize=_KEPT_FORMS)
def _name_form(purpose: bytes, numbers: int) -> bytes:
    """What `%` turns into the bytes of repr((seed, purpose, numbers))."""
    places = ", ".join(["%d"] * numbers) + ("," if numbers == 1 else "")
    return b"(%%d, %b, (%b))" % (repr(purpose).replace("%", "%%").encode(), places.encode())


def octets(seed: int, purpose: bytes, *numbers: int) -> bytes:
    """The 64 random bytes that belong to one (seed, purpose, numbers)."""
    return hashlib.blake2b(_name_form(purpose, len(numbers)) % (seed, *numbers)).digest()


class Dice:
    """512 random bits that belong to one (seed, purpose, numbers).

    Each draw uses some of the bits; they are enough for about forty draws of up to a thousand. After that
    every draw is zero, without an error, so use a new `Dice` for each small thing.
    """

    __slots__ = ("_supply",)

    def __init__(self, seed: int, purpose: bytes, *numbers: int) -> None:
        self._supply = int.from_bytes(octets(seed, purpose, *numbers), "little")

    def below(self, bound: int) -> int:
        """A whole number in [0, bound)."""
        self._supply, value = divmod(self._supply, bound)
        return value

    def draw(self, bounds: Sequence[int]) -> list[int]:
        """The results of `below` for several bounds, in turn."""
        supply, drawn = self._supply, []
        for bound in bounds:
            supply, value = divmod(supply, bound)
            drawn.append(value)
        self._supply = supply
        return drawn

    def chance(self, per_cent: int) -> bool:
        """True in `per_cent` of a hundred cases."""
        return self.below(100) < per_cent

    def pick(self, choices: Sequence[T]) -> T:
        """Pick from the choices; all are equally likely."""
        return choices[self.below(len(choices))]

    def token(self, digits: int) -> str:
        """So many hexadecimal digits."""
        return f"{self.below(1 << 4 * digits):0{digits}x}"
