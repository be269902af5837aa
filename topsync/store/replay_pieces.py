"""The pieces of a replay: each is of one seller, and is done, failed, or waits.

A piece is the span of its replay, or some hundred orders. What came of it stays with it: so the outcome of a
replay is kept by seller, and no row grows with the number of orders.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

import asyncpg
import orjson

from topsync.store.database import Connection, Pool, sql

_ROWS_AT_ONCE: Final = 500


class PieceState(StrEnum):
    """The state of a piece."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


class OrdersOfSeller(NamedTuple):
    """Orders that a piece asks for."""

    seller_id: int
    tids: Sequence[int]


@dataclass(frozen=True, slots=True)
class ReplayPiece:
    """A piece of a replay."""

    replay: str
    number: int
    seller_id: int
    tids: Sequence[int] | None
    """None: the span of the replay."""
    outcome: Mapping[str, object]
    """What has been found so far (`reconciler/replay_outcomes.py`)."""


class PieceOutcome(NamedTuple):
    """What has become of a piece."""

    number: int
    seller_id: int
    state: PieceState
    outcome: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class SellerOutcome:
    """What came of a seller in a replay."""

    seller_id: int
    nick: str | None
    """None: nobody has added the seller."""
    pieces: int
    waiting: int
    failed: int
    outcomes: Sequence[Mapping[str, object]]
    """Of each piece."""


class Counts(NamedTuple):
    """How many pieces a replay has, and of how many sellers."""

    pieces: int
    waiting: int
    sellers: int


def _read(row: asyncpg.Record) -> ReplayPiece:
    tids = row["tids"]
    return ReplayPiece(row["replay"], row["number"], row["seller_id"], tids, orjson.loads(row["outcome"]))


async def plan(pool: Pool, replay: str) -> None:
    """Cut the replay of a span into a piece for each of its sellers. Idempotent."""
    await pool.execute(sql("replay_pieces.plan"), replay)


async def add(connection: Connection, replay: str, orders: Sequence[OrdersOfSeller]) -> None:
    """Give a new replay its pieces."""
    await connection.executemany(
        sql("replay_pieces.add"),
        [(replay, number, each.seller_id, list(each.tids)) for number, each in enumerate(orders, 1)],
    )


async def waiting(pool: Pool, replay: str, *, after: int, limit: int) -> list[ReplayPiece]:
    """Pieces that are neither done nor failed, in order, from behind the piece with this number."""
    return [_read(row) for row in await pool.fetch(sql("replay_pieces.waiting"), replay, after, limit)]


async def outcomes(pool: Pool, replay: str) -> AsyncIterator[PieceOutcome]:
    """What has become of each piece, streamed."""
    async with pool.acquire() as connection, connection.transaction():
        async for row in connection.cursor(sql("replay_pieces.all"), replay, prefetch=_ROWS_AT_ONCE):
            yield PieceOutcome(
                row["number"], row["seller_id"], PieceState(row["state"]), orjson.loads(row["outcome"])
            )


async def of_sellers(pool: Pool, replay: str, *, limit: int) -> list[SellerOutcome]:
    """What came of each seller, those first of which something failed or was not fetched."""
    return [
        SellerOutcome(
            row["seller_id"],
            row["nick"],
            row["pieces"],
            row["waiting"],
            row["failed"],
            orjson.loads(row["outcomes"]),
        )
        for row in await pool.fetch(sql("replay_pieces.of_sellers"), replay, limit)
    ]


async def count(pool: Pool, replay: str) -> Counts:
    """How many pieces a replay has: a piece for each seller, or for some hundred orders."""
    row = await pool.fetchrow(sql("replay_pieces.count"), replay)
    assert row is not None
    return Counts(row["pieces"], row["waiting"], row["sellers"])


async def advance(pool: Pool, piece: ReplayPiece, outcome: Mapping[str, object]) -> None:
    """Note how far a piece came."""
    await pool.execute(
        sql("replay_pieces.advance"), piece.replay, piece.number, orjson.dumps(outcome).decode()
    )


async def finish(pool: Pool, piece: ReplayPiece, state: PieceState, outcome: Mapping[str, object]) -> None:
    """Give a piece its outcome. A piece keeps its first outcome."""
    await pool.execute(
        sql("replay_pieces.finish"),
        piece.replay,
        piece.number,
        state.value,
        orjson.dumps(outcome).decode(),
    )
