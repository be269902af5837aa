"""Chance as a pure function of its purpose."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from topsync.simulator.dice import Dice


@given(st.integers(0, 10**9), st.binary(max_size=20), st.lists(st.integers(0, 10**12), max_size=4))
def test_chance_follows_from_the_seed_the_purpose_and_the_numbers(
    seed: int, purpose: bytes, numbers: list[int]
) -> None:
    digest = hashlib.blake2b(repr((seed, purpose, tuple(numbers))).encode()).digest()
    supply = int.from_bytes(digest, "little")
    dice = Dice(seed, purpose, *numbers)
    assert dice.below(1000) == supply % 1000
    assert dice.draw((7, 1 << 40)) == [supply // 1000 % 7, supply // 7000 % (1 << 40)]
    assert Dice(seed, purpose, *numbers).token(24) == f"{supply % 16**24:024x}"
