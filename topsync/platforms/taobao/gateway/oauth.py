"""OAuth: how a seller lets us in, and how a session is renewed (docs/platform/gateway.md 3.16).

The token endpoint speaks plain HTTP forms and its own form of errors; it is not the gateway, signs nothing
and knows no flow control, so its calls pass no gate. How often they are made is decided by the callers.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

from pydantic import SecretStr

from topsync.platforms.session_port import SessionGrant
from topsync.platforms.taobao.gateway import wire
from topsync.platforms.taobao.gateway.errors import BadAnswerError, GrantRefusedError, TransportError
from topsync.platforms.taobao.gateway.transport import HttpConfig, HttpTransport

STATE_SECONDS: Final = 3600
"""How long a seller may take between opening the address and coming back."""

_LEVELS: Final = ("r1", "r2", "w1", "w2")
"""Security levels of read and write APIs, each with a life of its own."""

_FAILED_STATUS: Final = 500

_LONGEST_SECONDS: Final = 100 * 366 * 86400
"""Anything longer is not a life but noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthConfig:
    """Where the platform authorises, and who we are to it.

    Attributes:
        url: of which `/authorize` and `/token` are parts.
        redirect_url: the app's registered callback; None where nobody authorises.
        read_seconds: bound on an answer.
    """

    url: str
    app_key: str
    app_secret: SecretStr
    redirect_url: str | None = None
    read_seconds: float = 15.0
    http: HttpConfig = field(default_factory=lambda: HttpConfig(max_connections=4))


@dataclass(frozen=True, slots=True)
class Callback:
    """What came back from the seller: a code that works once, and the state that was sent along."""

    code: SecretStr
    state: str | None


class CallbackError(ValueError):
    """What was handed in is no answer to the question that was asked. The text holds none of it."""


class OAuthClient:
    """Calls the token endpoint; an asynchronous context manager. Nothing is retried here."""

    def __init__(self, config: OAuthConfig) -> None:
        self._config = config
        self._http = HttpTransport(config.http)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def exchange(self, code: SecretStr) -> SessionGrant:
        """Exchange the code that a seller's authorisation brought. A code works once.

        Raises:
            GrantRefusedError: the code is spent, too old or another app's.
            TransportError: no answer that can be read; the code may be spent.
        """
        form = {"grant_type": "authorization_code", "code": code.get_secret_value()}
        if self._config.redirect_url is not None:
            form["redirect_uri"] = self._config.redirect_url
        return await self._grant(form)

    async def refresh(self, refresh_token: SecretStr) -> SessionGrant:
        """Take a new session for an old one's refresh token.

        Only apps sold on the service market can (docs/platform/gateway.md 3.16). Whether the old session
        dies at once is not documented. The platform may have done it although no answer came.

        Raises:
            GrantRefusedError: the token is of no use any more.
            TransportError: no answer that can be read.
        """
        return await self._grant(
            {"grant_type": "refresh_token", "refresh_token": refresh_token.get_secret_value()}
        )

    async def _grant(self, form: Mapping[str, str]) -> SessionGrant:
        config = self._config
        who = {"client_id": config.app_key, "client_secret": config.app_secret.get_secret_value()}
        answer = await self._http.post_form(
            f"{config.url.rstrip('/')}/token", {**who, **form}, read_seconds=config.read_seconds
        )
        if answer.status >= _FAILED_STATUS:
            raise TransportError(f"HTTP status {answer.status}", api="oauth")
        return read_grant(answer.body, answered_at=answer.server_date or datetime.now(UTC))


def read_grant(body: bytes, *, answered_at: datetime) -> SessionGrant:
    """The grant in an answer of the token endpoint; `answered_at` is when its seconds began to count.

    Raises:
        GrantRefusedError: it is a refusal.
        BadAnswerError: it cannot be read. The text holds none of it.
    """
    try:
        answer = wire.loads(body)
    except ValueError:
        raise BadAnswerError("the answer is not JSON", api="oauth") from None
    if not isinstance(answer, Mapping):
        raise BadAnswerError("the answer is no object", api="oauth")
    if answer.get("error"):
        raise GrantRefusedError(str(answer["error"]))
    lives = {name: _seconds(answer, name) for name in ("expires_in", "re_expires_in")}
    token, refresh_token = answer.get("access_token"), answer.get("refresh_token")
    if not isinstance(token, str) or not token:
        raise BadAnswerError("the answer has no access_token", api="oauth")
    refreshable = isinstance(refresh_token, str) and bool(refresh_token) and lives["re_expires_in"] != 0
    return SessionGrant(
        seller_id=wire.as_id(answer.get("taobao_user_id")),
        nick=unquote_plus(str(answer.get("taobao_user_nick") or "")),
        session=SecretStr(token),
        authorised_at=answered_at,
        ends_at=_after(answered_at, lives["expires_in"]),
        refresh_token=SecretStr(str(refresh_token)) if refreshable else None,
        refresh_ends_at=_after(answered_at, lives["re_expires_in"]) if refreshable else None,
        facts=_facts(answer),
    )


def _facts(answer: Mapping[str, object]) -> dict[str, object]:
    """What is worth keeping besides tokens and ends: the life of the session by security level, in seconds
    from the grant, and the seller's employee who granted it, with whose rights it works.
    """
    lives = {level: _seconds(answer, f"{level}_expires_in") for level in _LEVELS}
    facts: dict[str, object] = {
        "level_seconds": {level: seconds for level, seconds in lives.items() if seconds is not None}
    }
    if sub_user := answer.get("sub_taobao_user_id"):
        facts["sub_user_id"] = str(wire.as_id(sub_user))
    return facts


def authorise_url(config: OAuthConfig, state: str) -> str:
    """The address that the seller opens to let us in.

    Raises:
        CallbackError: nobody said where the platform shall send the seller back to.
    """
    if config.redirect_url is None:
        raise CallbackError("the app's callback is not known: set TOPSYNC_OAUTH_REDIRECT_URL")
    parameters = {
        "response_type": "code",
        "client_id": config.app_key,
        "redirect_uri": config.redirect_url,
        "state": state,
        "view": "web",
    }
    return f"{config.url.rstrip('/')}/authorize?{urlencode(parameters)}"


def new_state(config: OAuthConfig, seller_id: int, *, now: datetime) -> str:
    """A `state` that says who is asked and until when, and that only we can make."""
    told = f"{seller_id}.{int(now.timestamp()) + STATE_SECONDS}"
    return f"{told}.{_seal(config, told)}"


def check_state(config: OAuthConfig, state: str, seller_id: int, *, now: datetime) -> None:
    """Check that a `state` that came back is ours, for this seller, and not too old.

    Raises:
        CallbackError: it is not.
    """
    told, _, seal = state.rpartition(".")
    if not hmac.compare_digest(seal.encode(), _seal(config, told).encode()):
        raise CallbackError("its state is not one that this app sent")
    told_seller, _, until = told.partition(".")
    if told_seller != str(seller_id):
        raise CallbackError("it answers the address of another seller")
    if int(until) < now.timestamp():
        raise CallbackError("it is too old; open a new address")


def read_callback(text: str) -> Callback:
    """The code in what the seller's browser came back with: the whole address, or the code alone.

    Raises:
        CallbackError: the seller said no, or there is no code in it.
    """
    text = text.strip()
    if "://" not in text:
        if not text:
            raise CallbackError("there is no code in it")
        return Callback(SecretStr(text), None)
    query = parse_qs(urlsplit(text).query)
    if "error" in query:
        raise CallbackError("the seller, or the platform, said no")
    if "code" not in query:
        raise CallbackError("there is no code in it")
    return Callback(SecretStr(query["code"][0]), query.get("state", [None])[0])


def _seal(config: OAuthConfig, told: str) -> str:
    key = config.app_secret.get_secret_value().encode()
    return hmac.new(key, b"topsync state " + told.encode(), hashlib.sha256).hexdigest()[:32]


def _seconds(answer: Mapping[str, object], name: str) -> int | None:
    if wire.is_absent(answer.get(name)):
        return None
    seconds = wire.as_count(answer[name])
    if seconds > _LONGEST_SECONDS:
        raise BadAnswerError(f"{name} is no life of a session", api="oauth")
    return seconds


def _after(instant: datetime, seconds: int | None) -> datetime | None:
    return None if seconds is None else instant + timedelta(seconds=seconds)
