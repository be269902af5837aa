"""Small answers of the platform that went wrong once, as bytes (`tests/data/cases`)."""

from __future__ import annotations

from pathlib import Path

_CASES = Path(__file__).parent.parent / "data" / "cases"


def case(name: str) -> bytes:
    """The answer of that name."""
    return (_CASES / f"{name}.json").read_bytes()
