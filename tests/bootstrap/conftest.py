"""The migrated database of the store's tests, for these too."""

from __future__ import annotations

from tests.store.databases import migrated_database_url

__all__ = ["migrated_database_url"]
