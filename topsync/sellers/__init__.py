"""Sellers and their sessions: kept, renewed, watched, and run by operators (docs/sellers.md)."""
