"""Sellers and their sessions. Session tokens are encrypted here and decrypted by `topsync.vault`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import asyncpg

from topsync.store.database import Pool, sql


class State(StrEnum):
    """Where a seller stands."""

    NEW = "new"
    """Known, not bootstrapped."""
    LIVE = "live"
    """Bootstrapped; push, gaps and sweeps run."""
    PAUSED = "paused"
    """Held by an operator."""
    EXPIRED = "expired"
    """The platform refuses the session: the seller has to authorise again."""


@dataclass(frozen=True, slots=True)
class Seller:
    """One seller."""

    seller_id: int
    nick: str
    session_cipher: bytes = field(repr=False)
    state: State


def _read(row: asyncpg.Record) -> Seller:
    return Seller(row["seller_id"], row["nick"], row["session_cipher"], State(row["state"]))


async def add(pool: Pool, *, seller_id: int, nick: str, session_cipher: bytes) -> None:
    """Add a seller, or renew its session. Idempotent."""
    await pool.execute(sql("sellers.add"), seller_id, nick, session_cipher)


async def all_of(pool: Pool) -> list[Seller]:
    """All sellers, by id."""
    return [_read(row) for row in await pool.fetch(sql("sellers.all"))]


async def get(pool: Pool, seller_id: int) -> Seller | None:
    """One seller by id."""
    row = await pool.fetchrow(sql("sellers.get"), seller_id)
    return _read(row) if row else None


async def find(pool: Pool, name: str) -> Seller | None:
    """One seller by nick or by id in text, as an operator would name it."""
    row = await pool.fetchrow(sql("sellers.find"), name)
    return _read(row) if row else None


async def set_state(pool: Pool, seller_id: int, state: State) -> None:
    """Change where a seller stands."""
    await pool.execute(sql("sellers.set_state"), seller_id, state.value)
