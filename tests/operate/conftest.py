"""The shop of the sellers' tests, for the commands about sellers too."""

from __future__ import annotations

from tests.sellers.conftest import shop

__all__ = ["shop"]
