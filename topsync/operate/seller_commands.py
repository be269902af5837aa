"""The commands about sellers: a function per command, printing for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from schemas import platform_time
from schemas.types import MAX_ID
from topsync.base import settings, terminal
from topsync.base.errors import OperatorError
from topsync.base.settings import SchemeSettings
from topsync.base.vault import Vault
from topsync.model.scheme import Scheme
from topsync.operate import seller_documents, seller_tables
from topsync.platforms.port import PlatformAwayError
from topsync.platforms.session_port import (
    Authorisation,
    CallbackUnusable,
    GrantRefused,
    GrantUnreadable,
    NoAuthorisation,
    SessionGrant,
)
from topsync.sellers import schemes, session_rules, status
from topsync.sellers.session_refresh import life_of
from topsync.store import bootstraps, refetches, sellers
from topsync.store.database import Pool
from topsync.store.sellers import Life, NickError, Seller, SellerState
from topsync.wiring import parts, platforms

MAX_TOKEN_BYTES = 64 * 1024
"""A token has a hundred characters, the platform's whole answer a thousand."""

MAX_IMPORT_BYTES = 16 * 1024 * 1024
"""Enough for more than ten thousand sellers."""


class SellerOperationError(OperatorError):
    """A command about a seller cannot be carried out."""


async def add(
    user_id: int, nick: str, handed_in: bytes, ends: datetime | None, scheme: Scheme | None = None
) -> None:
    """Add a seller or give it another session: a token alone, or the token endpoint's whole answer.

    Without a `scheme`, a known seller keeps its own, and a new one has the installation's.

    Raises:
        NickError: no seller can have this nick.
        SellerOperationError: what was handed in is not a session of this seller.
    """
    nick = sellers.valid_nick(nick)
    vault, now = parts.vault(), datetime.now(UTC)
    token, life = _read_session(handed_in, user_id, vault, now)
    if ends is not None:
        life = Life(ends_at=ends.replace(tzinfo=platform_time.CHINA), authorised_at=now)
    cipher = vault.encrypt(token)
    async with parts.open_pool() as pool:
        known = await sellers.get(pool, user_id)
        await sellers.add(pool, seller_id=user_id, nick=nick, session_cipher=cipher, life=life, scheme=scheme)
        shares = await _sharing(pool, user_id, nick)
    if known is None or known.state is SellerState.ERASED:
        terminal.say(f"added {nick}; next: topsync bootstrap --seller {user_id}")
    else:
        terminal.say(f"{nick} has another session; see: topsync sellers show {user_id}")
    terminal.say(*shares)


async def _sharing(pool: Pool, seller_id: int, nick: str) -> list[str]:
    """What to say when another seller is known under this nick: it was renamed, and we do not know so far."""
    others = [
        seller
        for seller in await sellers.all_of(pool)
        if seller.nick == nick and seller.seller_id != seller_id and seller.state is not SellerState.ERASED
    ]
    return [
        f"{other.seller_id} is known under the same nick, so one of the two shops was renamed. Its next "
        "session will show which; until then use their ids"
        for other in others
    ]


class HandedIn(BaseModel):
    """A seller as `add_all` reads it: a line of JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_id: int = Field(gt=0, le=MAX_ID)
    nick: str
    session: SecretStr = Field(min_length=1)
    ends: str | None = None
    """When the session ends, as the platform writes times: GMT+8."""
    scheme: Scheme | None = None

    @property
    def ends_at(self) -> datetime | None:
        """`ends` as an instant."""
        return None if self.ends is None else platform_time.parse(self.ends)

    @field_validator("ends")
    @classmethod
    def _is_a_time(cls, ends: str | None) -> str | None:
        if ends is not None:
            platform_time.parse(ends)
        return ends

    @field_validator("nick")
    @classmethod
    def _can_be_stored(cls, nick: str) -> str:
        try:
            return sellers.valid_nick(nick)
        except NickError as error:
            raise ValueError(str(error)) from None


async def add_all(handed_in: bytes, scheme: Scheme | None = None) -> None:
    """Add sellers, or give them other sessions, from a JSON object a line. All or none; idempotent.

    `scheme` is that of the lines that name none; see `add`.

    Raises:
        SellerOperationError: a line cannot be read; the text says which line, and quotes nothing of it.
    """
    if len(handed_in) > MAX_IMPORT_BYTES:
        raise SellerOperationError(f"more than {MAX_IMPORT_BYTES} bytes: import them in several parts")
    lines = enumerate(handed_in.splitlines(), start=1)
    found = [_read_line(number, line) for number, line in lines if line.strip()]
    vault, now = parts.vault(), datetime.now(UTC)
    async with parts.open_pool() as pool, pool.acquire() as connection, connection.transaction():
        for handed in found:
            cipher = vault.encrypt(handed.session)
            life = Life(authorised_at=now, ends_at=handed.ends_at)
            await sellers.add(
                connection,
                seller_id=handed.user_id,
                nick=handed.nick,
                session_cipher=cipher,
                life=life,
                scheme=handed.scheme or scheme,
            )
    terminal.say(f"{len(found)} sellers have their sessions; next, for those that are new: topsync bootstrap")


def _read_line(number: int, line: bytes) -> HandedIn:
    try:
        return HandedIn.model_validate_json(line)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = "".join(f"{part}: " for part in problem["loc"])
        raise SellerOperationError(f"line {number}: {where}{problem['msg']}; nothing is added") from None


def read_token_file(path: Path) -> bytes:
    """The content of a file that holds a token or a grant.

    Raises:
        SellerOperationError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_TOKEN_BYTES)
    except OSError as error:
        raise SellerOperationError(f"--token-file: {error.strerror}") from None


def _read_session(handed_in: bytes, user_id: int, vault: Vault, now: datetime) -> tuple[SecretStr, Life]:
    text = handed_in.strip()
    if not text:
        raise SellerOperationError(
            "no session token on standard input: pipe it in, e.g. `topsync sellers add ... < file`"
        )
    if not text.startswith(b"{"):
        try:
            return SecretStr(text.decode()), Life(authorised_at=now)
        except UnicodeDecodeError:
            raise SellerOperationError("the session token is no text") from None
    grant = platforms.chosen().read_grant(text, answered_at=now)
    if isinstance(grant, GrantRefused | GrantUnreadable):
        raise SellerOperationError(f"that is no answer of the token endpoint: {grant.detail}")
    if grant.seller_id != user_id:
        raise SellerOperationError(f"that session belongs to seller {grant.seller_id}, not to {user_id}")
    return grant.session, life_of(grant, vault)


Ask = Callable[[str], Awaitable[str]]
"""Asks the operator for a line: `terminal.ask`."""


async def authorise(name: str | None, handed_in: str | None, ask: Ask) -> None:
    """Have a seller authorise, and store the session. Without a name: any seller, added if new.

    `handed_in` is the code, or the whole address that the seller came back with. Without it, the address to
    open is printed, and `ask` is called for the answer.
    """
    vault = parts.vault()
    async with platforms.chosen().authorisation() as authorisation, parts.open_pool() as pool:
        expected = None if name is None else await find(pool, name)
        seller_id = None if expected is None else expected.seller_id
        if handed_in is None:
            handed_in = await _have_authorised(authorisation, seller_id, ask)
        grant = await _exchange(authorisation, SecretStr(handed_in), seller_id)
        if expected is not None and grant.seller_id != expected.seller_id:
            raise SellerOperationError(
                f"{grant.nick} ({grant.seller_id}) has authorised, not {expected.name}: nothing "
                "is stored. Open the address as the right seller, in a window where nobody else is logged in"
            )
        before = await sellers.get(pool, grant.seller_id)
        await sellers.add(
            pool,
            seller_id=grant.seller_id,
            nick=sellers.granted_nick(grant.nick, before.nick if before else None, grant.seller_id),
            session_cipher=vault.encrypt(grant.session),
            life=life_of(grant, vault),
        )
        after = await sellers.get(pool, grant.seller_id)
        assert after is not None
        shares = await _sharing(pool, after.seller_id, after.nick)
    terminal.say(_authorised(before, after), *shares)


async def _have_authorised(authorisation: Authorisation, seller_id: int | None, ask: Ask) -> str:
    """Send a seller to the platform; what it came back with."""
    address = authorisation.address(seller_id)
    if isinstance(address, NoAuthorisation):
        raise SellerOperationError(f"no seller can authorise: {address.why}")
    terminal.say("The seller opens this address, logs in and agrees:", "", address.url, "")
    return await ask("The code, or the whole address that the browser was sent to: ")


async def _exchange(
    authorisation: Authorisation, came_back_with: SecretStr, seller_id: int | None
) -> SessionGrant:
    try:
        answer = await authorisation.exchange(came_back_with, seller_id)
    except PlatformAwayError as error:
        raise SellerOperationError(f"{error}; the code may be spent: open the address again") from None
    match answer:
        case SessionGrant():
            return answer
        case CallbackUnusable(why):
            raise SellerOperationError(f"that cannot be used: {why}")
        case GrantRefused(concerns_app=True):
            raise SellerOperationError(answer.detail)
        case GrantRefused():
            raise SellerOperationError(
                f"{answer.detail}; a code works once and not for long: open the address again"
            )


def _authorised(before: Seller | None, after: Seller) -> str:
    ends_at = after.life.ends_at
    until = "" if ends_at is None else f" until {platform_time.format(ends_at)} (GMT+8)"
    done = f"{after.name} has authorised{until}"
    if before is None or before.state is SellerState.ERASED:
        return f"{done}; next: topsync bootstrap --seller {after.seller_id}"
    if after.state is SellerState.PAUSED:
        return f"{done}, and is still paused: topsync sellers resume {after.seller_id}"
    return f"{done}; what is missing is replayed: topsync sellers show {after.seller_id}"


async def pause(name: str, reason: str) -> None:
    """Pause a seller."""
    async with parts.open_pool() as pool:
        seller = await find(pool, name)
        done = await sellers.pause(pool, seller.seller_id, reason)
    if seller.state is SellerState.ERASED:
        raise SellerOperationError(f"{seller.name} {seller.reason}")
    terminal.say(
        f"{seller.name} is paused: it is not called for after ten seconds at most"
        if done
        else f"{seller.name} is paused already"
    )


async def resume(name: str) -> None:
    """End a seller's pause."""
    async with parts.open_pool() as pool:
        seller = await find(pool, name)
        done = await sellers.resume(pool, seller.seller_id, session_rules.REFUSED)
        after = await find(pool, str(seller.seller_id))
    if not done:
        raise SellerOperationError(f"{seller.name} is not paused but {seller.state.value}")
    said = f"{after.name} is {after.state.value}"
    if after.state is SellerState.EXPIRED:
        said += f": its session was refused meanwhile; {session_rules.what_to_do(after, now=None)}"
    elif after.state is SellerState.LIVE:
        said += f"; the time since its last proof is replayed: topsync sellers show {after.seller_id}"
    terminal.say(said)


async def set_scheme(name: str, scheme: Scheme | None) -> None:
    """Give a seller a scheme of its own, or the installation's (None)."""
    own = settings.load(SchemeSettings)
    async with parts.open_pool() as pool:
        seller = await find(pool, name)
        if not await sellers.set_scheme(pool, seller.seller_id, scheme):
            raise SellerOperationError(f"{seller.name} {seller.reason}")
        after = await find(pool, str(seller.seller_id))
    terminal.say(f"{after.name} has scheme {seller_tables.scheme_of(after, own.scheme)}")
    if schemes.scheme_of(after, own.scheme).pushes:
        if schemes.is_polled(after, own.scheme):
            terminal.say(
                "its messages come again when `topsync push` and `topsync reconcile` are running; until then "
                "it is polled"
            )
    else:
        terminal.say(
            f"it is polled every {own.poll_interval_seconds:g} s; `topsync reconcile` must be running"
        )


async def rekey(*, only_check: bool) -> int:
    """Encrypt all tokens with the first key; 0 when no other key is needed any more, otherwise 1."""
    vault = parts.vault()
    async with parts.open_pool() as pool:
        if not only_check:
            await _reencrypt_all(pool, vault)
        found = await sellers.all_of(pool)
    keys_of = [(seller, {vault.key_of(cipher) for cipher in _ciphers(seller)}) for seller in found]
    used = Counter(key_id for _, keys in keys_of for key_id in keys)
    first, *others = vault.key_ids
    for number, key_id in enumerate(vault.key_ids, start=1):
        terminal.say(f"key {number} of TOPSYNC_TOKEN_KEYS ({key_id}): {used[key_id]} of {len(found)} sellers")
    lost = [seller for seller, keys in keys_of if None in keys]
    for seller in lost:
        terminal.say(
            f"no key: {seller.nick} ({seller.seller_id}); add the key that it was stored with, or run "
            f"`topsync sellers authorise {seller.seller_id}`"
        )
    if needed := [key_id for key_id in others if used[key_id]]:
        terminal.say(f"keep {', '.join(needed)}: not every token is stored under the first key")
    if lost or needed:
        return 1
    terminal.say(f"every stored token opens with the first key, {first}: the others can be removed")
    return 0


async def _reencrypt_all(pool: Pool, vault: Vault) -> None:
    found = await sellers.all_of(pool)
    done = 0
    for seller in found:
        session, refresh = seller.session_cipher, seller.life.refresh_cipher
        # A token that no key opens stays as it is; so does a session that is refreshed at this moment.
        new_session = _under_first(session, vault)
        new_refresh = None if refresh is None else _under_first(refresh, vault)
        if (new_session, new_refresh) != (session, refresh):
            done += await sellers.reencrypt(
                pool, seller, session_cipher=new_session, refresh_cipher=new_refresh
            )
    terminal.say(f"encrypted anew: {done} of {len(found)} sellers")


def _under_first(cipher: bytes, vault: Vault) -> bytes:
    return cipher if vault.is_current(cipher) else vault.reencrypt(cipher) or cipher


def _ciphers(seller: Seller) -> list[bytes]:
    """A seller's encrypted values; none for an erased seller."""
    return [cipher for cipher in (seller.session_cipher, seller.life.refresh_cipher) if cipher]


async def list_all(*, as_json: bool = False) -> None:
    """Show all sellers."""
    async with parts.open_pool() as pool:
        found, parked = await sellers.all_of(pool), await refetches.parked(pool)
    now, installation = datetime.now(UTC), settings.load(SchemeSettings).scheme
    if as_json:
        terminal.write_json(
            {
                "sellers": [
                    seller_documents.of_seller(seller, parked.get(seller.seller_id, 0), installation, now)
                    for seller in found
                ]
            }
        )
        return
    terminal.show(seller_tables.of_all(found, parked, installation, now))
    terminal.say(*seller_tables.what_to_do(found, now))


async def show(name: str, *, as_json: bool = False) -> None:
    """Show a seller."""
    async with parts.open_pool() as pool:
        seller = await find(pool, name)
        (stands,) = await status.of_all(pool, only=seller.seller_id)
        bootstrap = await bootstraps.get(pool, seller.seller_id)
    now, installation = datetime.now(UTC), settings.load(SchemeSettings).scheme
    if as_json:
        terminal.write_json(seller_documents.of_one(stands, bootstrap, installation, now))
        return
    terminal.show(seller_tables.of_one(stands, bootstrap, installation, now))
    terminal.say(*seller_tables.what_to_do([stands.seller], now))


async def find(pool: Pool, name: str) -> Seller:
    """A seller by nick or id; the id wins.

    Raises:
        SellerOperationError: there is no such seller.
        AmbiguousError: several sellers have this nick.
    """
    found = await sellers.find(pool, name)
    if found is None:
        raise SellerOperationError(f"no seller {name}; see `topsync sellers list`")
    return found
