"""Sellers and their sessions: kept, refreshed, watched, and run by operators (docs/sellers.md)."""
