"""Small answers of the platform that once caused an error, as bytes (`tests/data/cases`)."""

from __future__ import annotations

from tests.support.places import CASES


def case(name: str) -> bytes:
    """The answer with that name."""
    return (CASES / f"{name}.json").read_bytes()
