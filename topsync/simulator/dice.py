"""Chance as a pure function: the same names always throw the same numbers.

`random.Random` would need tens of microseconds to seed per order; a keyed hash needs one or two.
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
    """A bounded supply of chance (512 bits) that belongs to one (seed, purpose, numbers).

    Draws take bits off the supply; about forty draws of up to a thousand fit before it runs dry, which
    raises no error but yields zeros, so use one `Dice` per small thing.
    """

    __slots__ = ("_supply",)

    def __init__(self, seed: int, purpose: bytes, *numbers: int) -> None:
        self._supply = int.from_bytes(octets(seed, purpose, *numbers), "little")

    def below(self, bound: int) -> int:
        """A whole number in [0, bound)."""
        self._supply, value = divmod(self._supply, bound)
        return value

    def draw(self, bounds: Sequence[int]) -> list[int]:
        """What `below` says of one bound after the other."""
        supply, drawn = self._supply, []
        for bound in bounds:
            supply, value = divmod(supply, bound)
            drawn.append(value)
        self._supply = supply
        return drawn

    def between(self, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        return low + self.below(high - low + 1)

    def chance(self, per_cent: int) -> bool:
        """True in so many of a hundred cases."""
        return self.below(100) < per_cent

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices, each as likely."""
        return choices[self.below(len(choices))]

    def token(self, digits: int) -> str:
        """So many hexadecimal digits."""
        return f"{self.below(1 << 4 * digits):0{digits}x}"
