"""Who may call for which seller: grants, sessions and their ends.

Source: docs/platform/gateway.md 3.16 and 2.5. What is unknown there is a field of `OAuthSettings`.
"""

from __future__ import annotations

import hmac
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote_plus

from topsync.simulator.dice import Dice
from topsync.simulator.errors import ApiError, Code
from topsync.simulator.journal import ReportChange, no_report
from topsync.simulator.sellers import SimulatedSeller
from topsync.simulator.settings import OAuthSettings
from topsync.simulator.wire import JsonObject, time_text

_SPENT_CODES = 1000
"""How many codes and spent refresh tokens to remember; older values are unknown, and refused as well."""

_UNLIMITED_SECONDS = 10 * 365 * 86400
"""How long the sessions of the start last."""

_W2_SECONDS = 1800
"""The right to write at the highest level ends after half an hour (docs/platform/errors.md, code 53)."""


class GrantError(Exception):
    """The token endpoint refuses. Its errors have another form than the gateway's (3.16, 6)."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(error)
        self.error = error
        self.description = description


@dataclass(frozen=True, slots=True)
class GrantedSession:
    """A session of a seller. Times are seconds of the platform's clock, since the epoch."""

    seller: SimulatedSeller
    token: str = field(repr=False)
    granted_at: int
    ends_at: int
    refresh_token: str = field(repr=False)
    refresh_ends_at: int
    sub_user_id: int | None = None
    refused: ApiError | None = None
    """Why it does not work any more, even if `ends_at` is later."""


@dataclass(frozen=True, slots=True)
class _Code:
    seller: SimulatedSeller
    ends_at: int
    redirect_uri: str
    sub_user_id: int | None


def _cancelled() -> ApiError:
    return ApiError(Code.INVALID_SESSION, "invalid-sessionkey", "session &apos;cancelled&apos;")


def _expired() -> ApiError:
    return ApiError(Code.INVALID_SESSION, "session-expired", "session-expired")


class Authorisations:
    """All grants. Each seller starts with the session that the admin's `GET /sellers` shows."""

    def __init__(
        self,
        sellers: Iterable[SimulatedSeller],
        apps: Mapping[str, str],
        settings: OAuthSettings,
        seed: int,
        second: Callable[[], int],
        on_stopped: Callable[[SimulatedSeller], None],
        report: ReportChange = no_report,
    ) -> None:
        """`on_stopped` is called when a seller's session ends before a new session has replaced it."""
        self.refreshable = settings.refreshable
        """Whether this app may refresh at all: a merchant's own may not."""
        self.counts: Counter[str] = Counter()
        """Requests to the token endpoint by outcome, for the ledger."""
        self._apps = apps
        self._settings = settings
        self._seed = seed
        self._second = second
        self._on_stopped = on_stopped
        self._report = report
        self._made = 0
        self._codes: dict[str, _Code] = {}
        self._former: deque[str] = deque()
        self._sessions: dict[str, GrantedSession] = {}
        self._current: dict[int, GrantedSession] = {}
        for seller in sellers:
            self._put(self._session(seller, seller.session, _UNLIMITED_SECONDS))

    def owner_of(self, token: str) -> SimulatedSeller | None:
        """The seller of a session, also when the session has ended."""
        session = self._sessions.get(token)
        return None if session is None else session.seller

    def admit(self, token: str) -> SimulatedSeller:
        """The seller of a session that works.

        Raises:
            ApiError: code 27, with what is wrong with it.
        """
        session = self._sessions.get(token)
        if session is None:
            raise ApiError(Code.INVALID_SESSION, "invalid-sessionkey", "session &apos;invalid&apos;")
        if session.refused is not None:
            raise session.refused
        if self._second() >= session.ends_at:
            self.expire(session.seller)
            raise _expired()
        return session.seller

    def works(self, seller: SimulatedSeller) -> bool:
        """Whether a seller's newest session works now."""
        try:
            self.admit(self.current(seller).token)
        except ApiError:
            return False
        return True

    def current(self, seller: SimulatedSeller) -> GrantedSession:
        """The newest session of a seller, whether or not it works."""
        return self._current[seller.index]

    def expire(self, seller: SimulatedSeller, *, refreshable: bool = True) -> None:
        """End a seller's session now, for ever; without `refreshable` its refresh token ends too."""
        session = self.current(seller)
        refresh_ends_at = session.refresh_ends_at if refreshable else session.granted_at
        self._put(replace(session, refused=session.refused or _expired(), refresh_ends_at=refresh_ends_at))
        self._on_stopped(seller)

    def cancel(self, seller: SimulatedSeller) -> None:
        """Withdraw a seller's authorisation: session and refresh token stop working."""
        session = self.current(seller)
        self._put(replace(session, refused=_cancelled(), refresh_ends_at=session.granted_at))
        self._on_stopped(seller)

    def schedule_end(self, seller: SimulatedSeller, in_seconds: int) -> None:
        """Let a seller's session end after so many seconds."""
        self._put(replace(self.current(seller), ends_at=self._second() + in_seconds))

    def new_code(
        self, seller: SimulatedSeller, redirect_uri: str = "", sub_user_id: int | None = None
    ) -> str:
        """The code that a seller's browser brings back after the seller said yes; works once, for a while."""
        code = f"code{self._token(seller)[:24]}"
        ends_at = self._second() + self._settings.code_seconds
        self._codes[code] = _Code(seller, ends_at, redirect_uri, sub_user_id)
        while len(self._codes) > _SPENT_CODES:
            del self._codes[next(iter(self._codes))]
        return code

    def answer(self, form: Mapping[str, str]) -> JsonObject:
        """The answer of the token endpoint.

        Raises:
            GrantError: it refuses.
        """
        return self._counted(form.get("grant_type", ""), lambda: self._answer(form))

    def exchange(self, code: str) -> JsonObject:
        """The answer to a code that came to the gateway, which knows the app by the signature.

        Raises:
            GrantError: it refuses.
        """
        return self._counted("authorization_code", lambda: self._exchange(code, None))

    def refresh(self, refresh_token: str) -> JsonObject:
        """The answer to a refresh that came to the gateway.

        Raises:
            GrantError: it refuses.
        """
        return self._counted("refresh_token", lambda: self._refresh(refresh_token))

    def _counted(self, grant_type: str, answer: Callable[[], JsonObject]) -> JsonObject:
        try:
            answered = answer()
        except GrantError as error:
            self.counts[f"refused {error.error}"] += 1
            raise
        self.counts[grant_type] += 1
        return answered

    def as_json(self, seller: SimulatedSeller) -> JsonObject:
        """For the admin's `GET /sessions`."""
        session = self.current(seller)
        return {
            "user_id": seller.user_id,
            "session": session.token,
            "works": self.works(seller),
            "granted_at": time_text(session.granted_at),
            "ends_at": time_text(session.ends_at),
            "refresh_token": session.refresh_token,
            "refreshable": self._is_refreshable(session),
        }

    def _answer(self, form: Mapping[str, str]) -> JsonObject:
        secret = self._apps.get(form.get("client_id", ""))
        if secret is None or not hmac.compare_digest(secret.encode(), form.get("client_secret", "").encode()):
            raise GrantError("invalid_client", "client_id or client_secret is wrong")
        match form.get("grant_type"):
            case "authorization_code":
                return self._exchange(form.get("code", ""), form.get("redirect_uri", ""))
            case "refresh_token":
                return self._refresh(form.get("refresh_token", ""))
            case _:
                raise GrantError("unsupported_grant_type", "grant_type is neither known nor supported")

    def _exchange(self, given: str, redirect_uri: str | None) -> JsonObject:
        """`redirect_uri` is None when the request has no such parameter."""
        code = self._codes.pop(given, None)
        if code is None or self._second() >= code.ends_at:
            raise GrantError("invalid_grant", "code is unknown, spent or too old")
        if code.redirect_uri and redirect_uri not in (None, code.redirect_uri):
            raise GrantError("invalid_grant", "redirect_uri is not where the code was sent to")
        return self._granted(code.seller, code.sub_user_id)

    def _refresh(self, refresh_token: str) -> JsonObject:
        session = next((each for each in self._current.values() if each.refresh_token == refresh_token), None)
        if not refresh_token or session is None or not self._is_refreshable(session):
            raise GrantError("invalid_grant", "refresh_token is unknown, spent or too old")
        return self._granted(session.seller, session.sub_user_id)

    def _granted(self, seller: SimulatedSeller, sub_user_id: int | None) -> JsonObject:
        former = self.current(seller)
        token = f"6100{self._token(seller)}"
        session = replace(
            self._session(seller, token, self._settings.session_seconds), sub_user_id=sub_user_id
        )
        if self._settings.renewal_ends_old_session and former.refused is None:
            self._sessions[former.token] = replace(former, refused=_expired())
            self._report("session", former.token, seller.index, 0)
        self._put(session)
        return self._as_answer(session)

    def _as_answer(self, session: GrantedSession) -> JsonObject:
        life = session.ends_at - session.granted_at
        sub_user: JsonObject = {}
        if session.sub_user_id is not None:
            sub_user = {
                "sub_taobao_user_id": str(session.sub_user_id),
                "sub_taobao_user_nick": quote_plus(f"{session.seller.nick}:客服"),
            }
        return {
            "access_token": session.token,
            "token_type": "Bearer",
            "expires_in": life,
            "refresh_token": session.refresh_token,
            "re_expires_in": session.refresh_ends_at - session.granted_at if self.refreshable else 0,
            "r1_expires_in": life,
            "r2_expires_in": life,
            "w1_expires_in": life,
            "w2_expires_in": min(life, _W2_SECONDS),
            "taobao_user_id": str(session.seller.user_id),
            "taobao_user_nick": quote_plus(session.seller.nick),
            **sub_user,
        }

    def _session(self, seller: SimulatedSeller, token: str, life_seconds: int) -> GrantedSession:
        now = self._second()
        return GrantedSession(
            seller=seller,
            token=token,
            granted_at=now,
            ends_at=now + life_seconds,
            refresh_token=f"6101{self._token(seller)}",
            refresh_ends_at=now + self._settings.refresh_seconds,
        )

    def _put(self, session: GrantedSession) -> None:
        former = self._current.get(session.seller.index)
        if former is not None and former.token != session.token:
            self._former.append(former.token)
            if len(self._former) > _SPENT_CODES:
                forgotten = self._former.popleft()
                self._sessions.pop(forgotten, None)
                self._report("session", forgotten, session.seller.index, 0)
        self._sessions[session.token] = self._current[session.seller.index] = session
        works_until = 0 if session.refused else session.ends_at
        self._report("session", session.token, session.seller.index, works_until)

    def _is_refreshable(self, session: GrantedSession) -> bool:
        return self.refreshable and self._second() < session.refresh_ends_at

    def _token(self, seller: SimulatedSeller) -> str:
        self._made += 1
        return Dice(self._seed, f"token {seller.index}".encode(), self._made).token(52)
