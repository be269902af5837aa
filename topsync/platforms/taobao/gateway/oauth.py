"""OAuth: how a seller authorises us, and how a session is refreshed (docs/platform/gateway.md 3.16).

The token endpoint uses plain HTTP forms and its own form of errors. It is not the gateway: its calls are not
signed and it has no flow control, so they pass no gate. The callers decide how often they are made.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

from pydantic import SecretStr

from topsync.platforms.session_port import SessionGrant
from topsync.platforms.taobao.gateway import platform_json, wire
from topsync.platforms.taobao.gateway.errors import BadAnswerError, GrantRefusedError, TransportError
from topsync.platforms.taobao.gateway.transport import HttpConfig, HttpTransport, HttpUser

STATE_SECONDS: Final = 3600
"""How long a seller may take between opening the address and coming back."""

_LEVELS: Final = ("r1", "r2", "w1", "w2")
"""Security levels of read and write APIs. The session has another life for each."""

_FAILED_STATUS: Final = 500

_LONGEST_SECONDS: Final = 100 * 366 * 86400
"""A longer life of a session cannot be right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthConfig:
    """Where the platform authorises, and which application we are.

    Attributes:
        url: the base of `/authorize` and `/token`.
        redirect_url: the app's registered callback; None where no seller is authorised.
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
    """What came back from the seller: a code that works once, and the state that we sent."""

    code: SecretStr
    state: str | None


class CallbackError(ValueError):
    """The text handed in is not an answer to our request. The error quotes nothing of it."""


class OAuthClient(HttpUser):
    """Calls the token endpoint; an asynchronous context manager. Nothing is retried here."""

    def __init__(self, config: OAuthConfig) -> None:
        super().__init__(HttpTransport(config.http))
        self._config = config

    @property
    def config(self) -> OAuthConfig:
        """Where it authorises, and as which application."""
        return self._config

    async def exchange(self, code: SecretStr) -> SessionGrant:
        """Exchange the code that a seller's authorisation brought. A code works once.

        Raises:
            GrantRefusedError: the code was used already, is too old or another app's.
            TransportError: no readable answer; the code may have been used up.
        """
        form = {"grant_type": "authorization_code", "code": code.get_secret_value()}
        if self._config.redirect_url is not None:
            form["redirect_uri"] = self._config.redirect_url
        return await self._grant(form)

    async def refresh(self, refresh_token: SecretStr) -> SessionGrant:
        """Exchange a refresh token for a new session.

        Only apps sold on the service market can do this (docs/platform/gateway.md 3.16). Whether the old
        session ends at once is not documented. The platform may have refreshed the session although no answer
        came.

        Raises:
            GrantRefusedError: the token can no longer be used.
            TransportError: no readable answer.
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
    """The grant in an answer of the token endpoint; its lives in seconds count from `answered_at`.

    Raises:
        GrantRefusedError: the answer is a refusal.
        BadAnswerError: the answer cannot be read. The error quotes nothing of it.
    """
    try:
        answer = platform_json.loads(body)
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
    """The address that the seller opens to authorise us.

    Raises:
        CallbackError: the app's callback, to which the platform sends the seller back, is not configured.
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
    """A `state` that names the seller and the time until which it is valid, and that only we can make."""
    content = f"{seller_id}.{int(now.timestamp()) + STATE_SECONDS}"
    return f"{content}.{_seal(config, content)}"


def check_state(config: OAuthConfig, state: str, seller_id: int, *, now: datetime) -> None:
    """Check that a `state` that came back is ours, for this seller, and not too old.

    Raises:
        CallbackError: it is another app's, another seller's, or too old.
    """
    content, _, seal = state.rpartition(".")
    if not hmac.compare_digest(seal.encode(), _seal(config, content).encode()):
        raise CallbackError("its state was not sent by this app")
    state_seller, _, until = content.partition(".")
    if state_seller != str(seller_id):
        raise CallbackError("it answers the address of another seller")
    if int(until) < now.timestamp():
        raise CallbackError("it is too old; open a new address")


def read_callback(text: str) -> Callback:
    """The code that the seller's browser came back with, from the whole address or alone.

    Raises:
        CallbackError: the seller refused, or there is no code in the text.
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


def _seal(config: OAuthConfig, content: str) -> str:
    key = config.app_secret.get_secret_value().encode()
    return hmac.new(key, b"topsync state " + content.encode(), hashlib.sha256).hexdigest()[:32]


def _seconds(answer: Mapping[str, object], name: str) -> int | None:
    if wire.is_absent(answer.get(name)):
        return None
    seconds = wire.as_count(answer[name])
    if seconds > _LONGEST_SECONDS:
        raise BadAnswerError(f"{name} is no life of a session", api="oauth")
    return seconds


def _after(instant: datetime, seconds: int | None) -> datetime | None:
    return None if seconds is None else instant + timedelta(seconds=seconds)
