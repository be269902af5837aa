"""Sellers and their sessions. Tokens come and go encrypted: `topsync.base.vault` holds the keys.

Each change of state is a single statement in `sql/sellers.sql`, so the changes of two processes cannot mix:

    new ──bulk start done──▶ live        paused ──resume──▶ new, live or expired, whichever it was
    new, live ──refused──▶ expired ──another session──▶ new or live, whichever it was
    new, live, expired ──pause──▶ paused
    new, live ──no key opens the session──▶ expired ──the key is there──▶ new or live, whichever it was
    whatever it is ──erase──▶ erased ──another session, once all of it is erased──▶ new
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import asyncpg
import orjson

from schemas.opaque import storable_text
from topsync.base.errors import OperatorError
from topsync.model.scheme import Scheme
from topsync.store.database import Connection, Pool, sql

REFRESH_SECONDS = 25.0
"""When a claim to refresh has no outcome after this time, its process has died: the call itself is bounded by
the transport to 21 s."""


class SellerState(StrEnum):
    """The state of a seller."""

    NEW = "new"
    """Known, but without a bulk start."""
    LIVE = "live"
    """Its bulk start is done; push, gaps and sweeps run."""
    PAUSED = "paused"
    """Paused by an operator."""
    EXPIRED = "expired"
    """The platform refuses the session: the seller has to authorise again."""
    ERASED = "erased"
    """Its data is erased, by an operator's command: nothing of it is kept or written
    (`store/erasures.py`)."""


class ErasedError(OperatorError):
    """The seller's data is being erased, or was."""


class NickError(OperatorError):
    """The given nick cannot be a seller's name."""


class AmbiguousError(OperatorError):
    """Several sellers are known under that nick."""


MAX_NICK_CHARACTERS = 100
"""The platform's own bound (docs/platform/gateway.md 3.12)."""


@dataclass(frozen=True, slots=True)
class Life:
    """What we know about a session besides the token. Times are platform time."""

    ends_at: datetime | None = None
    """None when it is not known."""
    authorised_at: datetime | None = None
    refresh_cipher: bytes | None = field(default=None, repr=False)
    """None when it cannot be refreshed."""
    refresh_ends_at: datetime | None = None
    facts: Mapping[str, object] = field(default_factory=dict)
    """Other facts of the grant: seconds per security level, the sub-account that granted it."""


UNKNOWN = Life()


@dataclass(frozen=True, slots=True)
class Seller:
    """A seller. Times are the database's clock unless stated otherwise."""

    seller_id: int
    nick: str
    """The platform's last word. Sellers are renamed, so two sellers may have the same nick in turn."""
    session_cipher: bytes = field(repr=False)
    """Empty when the seller is erased."""
    state: SellerState
    version: int
    """Numbers the sessions of this seller, to name a certain session."""
    life: Life
    refused_at: datetime | None
    """Since when the platform refuses the session; None while it accepts it."""
    reason: str | None
    """Why it is paused, expired or erased."""
    since: datetime
    """Since when it is in this state."""
    replay_due: bool
    """The seller is back, with a new session or from a pause: the changes meanwhile are missing."""
    refresh_attempts: int
    """Failed attempts to refresh this session."""
    refresh_allowed: bool
    """Whether enough time has passed since the last attempt."""
    refresh_under_way: bool
    """Whether a process is refreshing it now."""
    scheme: Scheme | None = None
    """Its own scheme; None: the installation's. See `topsync.sellers.schemes`."""
    messages_cancelled: bool = False
    """We have had its messages cancelled, and not permitted again since."""

    @property
    def name(self) -> str:
        """Nick and id, for people: a nick by itself may be another seller's id."""
        return f"{self.nick} ({self.seller_id})"


def valid_nick(text: str) -> str:
    """A nick as it is stored.

    Raises:
        NickError: no seller can have this nick.
    """
    nick = text.strip()
    if not nick:
        raise NickError("the nick is empty")
    if len(nick) > MAX_NICK_CHARACTERS:
        raise NickError(f"the nick has {len(nick)} characters, and may have {MAX_NICK_CHARACTERS}")
    if nick != storable_text(nick):
        raise NickError("the nick has characters in it that cannot be stored")
    return nick


def granted_nick(granted: str, before: str | None, seller_id: int) -> str:
    """The nick to store with a session that the platform granted: an unusable nick never loses the session.

    Without a usable nick from the platform: the nick from before, or else the id. Pure.
    """
    nick = storable_text(granted).strip()[:MAX_NICK_CHARACTERS].strip()
    return nick or before or str(seller_id)


def choose(named: Iterable[Seller], name: str) -> Seller | None:
    """The seller that an operator means by an id or a nick. The id wins, because it is unique. Pure.

    Raises:
        AmbiguousError: several sellers have this nick.
    """
    by_nick: list[Seller] = []
    for seller in named:
        if str(seller.seller_id) == name:
            return seller
        if seller.nick == name:
            by_nick.append(seller)
    if len(by_nick) > 1:
        ids = " and ".join(f"{seller.seller_id} ({seller.state})" for seller in by_nick)
        raise AmbiguousError(f"{name} is the nick of {ids}: give the id of the seller that you mean")
    return by_nick[0] if by_nick else None


def _read(row: asyncpg.Record) -> Seller:
    return Seller(
        seller_id=row["seller_id"],
        nick=row["nick"],
        session_cipher=row["session_cipher"],
        state=SellerState(row["state"]),
        version=row["session_version"],
        life=Life(
            ends_at=row["session_ends_at"],
            authorised_at=row["authorised_at"],
            refresh_cipher=row["refresh_cipher"],
            refresh_ends_at=row["refresh_ends_at"],
            facts=orjson.loads(row["grant_facts"]),
        ),
        refused_at=row["refused_at"],
        reason=row["state_reason"],
        since=row["state_since"],
        replay_due=row["replay_due"],
        refresh_attempts=row["refresh_attempts"],
        refresh_allowed=row["refresh_allowed"],
        refresh_under_way=row["refresh_under_way"],
        scheme=None if row["scheme"] is None else Scheme(row["scheme"]),
        messages_cancelled=row["messages_cancelled"],
    )


async def add(
    pool: Pool | Connection,
    *,
    seller_id: int,
    nick: str,
    session_cipher: bytes,
    life: Life = UNKNOWN,
    scheme: Scheme | None = None,
) -> None:
    """Add a seller, or give a known seller another session. A paused seller stays paused.

    Without a `scheme`, a known seller keeps its own, and a new seller has the installation's.

    Another row may have the same nick: shops are renamed, and we learn of it shop by shop.

    Raises:
        ErasedError: its data is still being erased; nothing is stored.
        NickError: no seller can have this nick; nothing is stored.
    """
    if await _store(pool, seller_id, valid_nick(nick), session_cipher, life, None, scheme) != "INSERT 0 1":
        raise ErasedError(
            f"{nick} is being erased: run `topsync sellers erase {seller_id}` until it is done, then again"
        )


async def store_refreshed(pool: Pool, seller: Seller, nick: str, session_cipher: bytes, life: Life) -> bool:
    """Replace this session, and store the nick that came with the new session; false when there is already a
    newer session.
    """
    tag = await _store(pool, seller.seller_id, nick, session_cipher, life, seller.version)
    return tag == "INSERT 0 1"


async def _store(
    pool: Pool | Connection,
    seller_id: int,
    nick: str,
    session_cipher: bytes,
    life: Life,
    replaces: int | None,
    scheme: Scheme | None = None,
) -> str:
    return await pool.execute(
        sql("sellers.store"),
        seller_id,
        nick,
        session_cipher,
        life.ends_at,
        life.authorised_at,
        life.refresh_cipher,
        life.refresh_ends_at,
        orjson.dumps(life.facts).decode(),
        replaces,
        scheme,
    )


async def all_of(pool: Pool) -> list[Seller]:
    """All sellers, by id."""
    return await _select(pool)


async def get(pool: Pool, seller_id: int) -> Seller | None:
    """A seller by its id."""
    found = await _select(pool, seller_id=seller_id)
    return found[0] if found else None


async def some(pool: Pool, seller_ids: Iterable[int]) -> dict[int, Seller]:
    """These sellers, of those that are known, by id."""
    rows = await pool.fetch(sql("sellers.some"), REFRESH_SECONDS, list(seller_ids))
    return {row["seller_id"]: _read(row) for row in rows}


async def nicks(pool: Pool, seller_ids: Iterable[int]) -> dict[int, str]:
    """The nicks of these sellers, of those that are known."""
    rows = await pool.fetch(sql("sellers.nicks"), list(seller_ids))
    return {row["seller_id"]: row["nick"] for row in rows}


async def count(pool: Pool) -> int:
    """How many sellers there are, in whatever state, but for those that are erased."""
    return int(await pool.fetchval(sql("sellers.count")))


async def count_usable(pool: Pool) -> int:
    """For how many sellers calls may be made."""
    return int(await pool.fetchval(sql("sellers.count_usable")))


async def find(pool: Pool, name: str) -> Seller | None:
    """A seller by nick or by id in text, as an operator would name it; see `choose`.

    Raises:
        AmbiguousError: it is the nick of several.
    """
    if not name or name != storable_text(name):
        return None
    return choose(await _select(pool, name=name), name)


async def _select(pool: Pool, *, seller_id: int | None = None, name: str | None = None) -> list[Seller]:
    return [_read(row) for row in await pool.fetch(sql("sellers.select"), REFRESH_SECONDS, seller_id, name)]


async def set_live(connection: Connection, seller_id: int) -> None:
    """Make a new seller live. A paused or expired seller stays so, and is live when it is back."""
    await connection.execute(sql("sellers.set_live"), seller_id)


async def refuse(pool: Pool, seller_id: int, version: int, reason: str) -> bool:
    """Note that the platform refuses this session; false when that is known, or there is a newer session."""
    return await pool.execute(sql("sellers.refuse"), seller_id, version, reason) == "UPDATE 1"


async def set_unreadable(pool: Pool, seller: Seller, reason: str) -> bool:
    """Note that no key opens this session; false when there is a newer session, or the seller is away."""
    tag = await pool.execute(sql("sellers.set_unreadable"), seller.seller_id, seller.version, reason)
    return tag == "UPDATE 1"


async def set_readable(pool: Pool, seller: Seller, reason: str) -> bool:
    """Undo a `set_unreadable` that gave the same reason."""
    found = await pool.fetchval(sql("sellers.set_readable"), seller.seller_id, seller.version, reason)
    return found is not None


async def cancel(pool: Pool, seller_id: int, at: datetime, reason: str) -> bool:
    """Note that the seller withdrew the authorisation at a moment of platform time. Idempotent.

    False when nothing changed: it was known, the seller is not ours, or it has authorised again since.
    """
    return await pool.fetchval(sql("sellers.cancel"), seller_id, at, reason) is not None


async def pause(pool: Pool, seller_id: int, reason: str) -> bool:
    """Pause a seller; false when it is already paused, or erased."""
    return await pool.execute(sql("sellers.pause"), seller_id, reason) == "UPDATE 1"


async def resume(pool: Pool, seller_id: int, reason_if_refused: str) -> bool:
    """Give a paused seller its former state back, or expired if its session was refused meanwhile."""
    return await pool.execute(sql("sellers.resume"), seller_id, reason_if_refused) == "UPDATE 1"


async def set_scheme(pool: Pool, seller_id: int, scheme: Scheme | None) -> bool:
    """Give a seller a scheme of its own, or the installation's (None). Idempotent; false when it is erased.

    The watch over the sessions has its messages permitted or cancelled accordingly.
    """
    return await pool.execute(sql("sellers.set_scheme"), seller_id, scheme) == "UPDATE 1"


async def set_messages(connection: Pool | Connection, seller_id: int, *, cancelled: bool) -> bool:
    """Note that a seller's messages are cancelled, or permitted again; false when that is known, or it is
    erased.
    """
    return await connection.execute(sql("sellers.set_messages"), seller_id, cancelled) == "UPDATE 1"


async def begin_refresh(pool: Pool, seller: Seller, *, not_again_for_seconds: float) -> bool:
    """Claim the right to refresh this session. Only one process gets it; the claim lapses after a time."""
    tag = await pool.execute(
        sql("sellers.begin_refresh"), seller.seller_id, seller.version, not_again_for_seconds
    )
    return tag == "UPDATE 1"


async def refresh_failed(pool: Pool, seller: Seller, *, again_in_seconds: float) -> None:
    """Give a claim back after a refresh without an answer."""
    await pool.execute(sql("sellers.refresh_failed"), seller.seller_id, seller.version, again_in_seconds)


async def refresh_refused(pool: Pool, seller: Seller, reason: str) -> None:
    """Give a claim back after the platform refused: this refresh token is never tried again."""
    await pool.execute(sql("sellers.refresh_refused"), seller.seller_id, seller.version, reason)


async def replay_planned(connection: Connection, seller: Seller) -> bool:
    """Note that a gap has been opened for the seller's absence; false when no gap is due any more."""
    found = await connection.fetchval(sql("sellers.replay_planned"), seller.seller_id, seller.version)
    return found is not None


async def reencrypt(
    pool: Pool, seller: Seller, *, session_cipher: bytes, refresh_cipher: bytes | None
) -> bool:
    """Store other ciphers of the same tokens; false when the tokens have changed meanwhile."""
    tag = await pool.execute(
        sql("sellers.reencrypt"),
        seller.seller_id,
        seller.version,
        session_cipher,
        refresh_cipher,
        seller.session_cipher,
        seller.life.refresh_cipher,
    )
    return tag == "UPDATE 1"


async def warnings_given(pool: Pool) -> list[tuple[int, int]]:
    """The warnings that were given about the present sessions, as (seller, days before the end)."""
    return [(row["seller_id"], row["days"]) for row in await pool.fetch(sql("sellers.warnings_given"))]


async def warning_given(pool: Pool, seller: Seller, days: int) -> None:
    """Note that a warning was given. Idempotent."""
    await pool.execute(sql("sellers.warning_given"), seller.seller_id, seller.version, days)
