"""The shop of the sellers' tests, also for the commands about sellers."""

from __future__ import annotations

from tests.sellers.conftest import shop

__all__ = ["shop"]
