"""What the gateway checks before a service sees a call, and in which order (reference/top-api.md 1.5)."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from topsync.simulator import errors, wire
from topsync.simulator.arguments import Arguments
from topsync.simulator.errors import ApiError, Code
from topsync.simulator.faults.base import Visit
from topsync.simulator.faults.board import Meeting
from topsync.simulator.faults.effects import CLEAR, Vision
from topsync.simulator.sellers import Seller
from topsync.simulator.settings import Check
from topsync.simulator.wire import Json
from topsync.top.sign import SignMethod, sign

CLOCK_TOLERANCE_SECONDS = 600
"""A timestamp may be off by ten minutes, either way."""

UNKNOWN_API = "unknown"
"""What a call of a method that does not exist is counted as."""

_VERBS = ("GET", "POST")
_VERSION = "2.0"
_FORMATS = ("json", "xml")
_MILLISECONDS_DIGITS = 13
_KEPT_TIMESTAMPS = 1024
"""Calls of one second mostly carry the same."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that has passed the gateway's checks."""

    app_key: str
    arguments: Arguments
    granted: Seller | None
    """Whose session it carries; None for an API that needs none."""
    vision: Vision = CLEAR
    """How far behind the truth the service is that answers."""

    @property
    def seller(self) -> Seller:
        """The seller of an API that needs a session."""
        if self.granted is None:
            raise ApiError(Code.MISSING_SESSION)
        return self.granted


@dataclass(frozen=True, slots=True)
class Api:
    """One method: what it needs, and the function that answers it (raises ApiError)."""

    name: str
    answer: Callable[[Call], Json]
    needs_session: bool = True


class Grants(Protocol):
    """Who may call for whom."""

    def owner_of(self, token: str) -> Seller | None:
        """Whose session it is or was, as far as that is known."""

    def admit(self, token: str) -> Seller:
        """The seller of a session that works; raises ApiError."""


@dataclass(frozen=True, slots=True)
class Doorkeeper:
    """The checks, with what they compare against."""

    apis: Mapping[str, Api]
    apps: Mapping[str, str]
    """app_key to app_secret."""
    authorisations: Grants
    second: Callable[[], int]
    """The platform's time in seconds since the epoch."""
    order: tuple[Check, ...] = tuple(Check)
    closed: frozenset[str] = frozenset()
    """Methods that the app has no right to."""

    def visit(self, parameters: Mapping[str, str]) -> Visit:
        """What a call seems to be, before anything about it is checked."""
        method = parameters.get("method", "")
        api = method if method in self.apis else UNKNOWN_API
        return Visit(api, self.authorisations.owner_of(parameters.get("session", "")), parameters)

    def admit(self, verb: str, parameters: Mapping[str, str], meeting: Meeting) -> tuple[Api, Call]:
        """The method that is called, once everything about the call is in order.

        `meeting` holds the faults that strike the call.

        Raises:
            ApiError: the first check that fails; reference/top-api.md 1.5 suggests an order.
        """
        if verb not in _VERBS:
            raise ApiError(Code.HTTP_ACTION)
        api = self._method(parameters)
        secret = self._app(parameters)
        seller: Seller | None = None
        for check in self.order:
            match check:
                case Check.VERSION:
                    _check_version(parameters)
                case Check.TIMESTAMP:
                    self._check_timestamp(parameters, meeting.delivery.skew_seconds)
                case Check.SIGNATURE:
                    _check_signature(parameters, secret)
                case Check.FORMAT:
                    _check_format(parameters)
                case Check.FREQUENCY:
                    meeting.limit()
                case Check.PERMISSION if api.name in self.closed:
                    raise errors.closed()
                case Check.SESSION if api.needs_session:
                    seller = self._session(parameters)
        return api, Call(parameters["app_key"], Arguments(parameters), seller, meeting.vision)

    def _method(self, parameters: Mapping[str, str]) -> Api:
        name = _present(parameters, "method", Code.MISSING_METHOD)
        api = self.apis.get(name)
        if api is None:
            raise ApiError(Code.INVALID_METHOD)
        return api

    def _app(self, parameters: Mapping[str, str]) -> str:
        secret = self.apps.get(_present(parameters, "app_key", Code.MISSING_APP_KEY))
        if secret is None:
            raise ApiError(Code.INVALID_APP_KEY)
        return secret

    def _check_timestamp(self, parameters: Mapping[str, str], skew_seconds: int) -> None:
        told = _timestamp(_present(parameters, "timestamp", Code.MISSING_TIMESTAMP))
        if abs(told - self.second() - skew_seconds) > CLOCK_TOLERANCE_SECONDS:
            raise ApiError(Code.INVALID_TIMESTAMP)

    def _session(self, parameters: Mapping[str, str]) -> Seller:
        return self.authorisations.admit(_present(parameters, "session", Code.MISSING_SESSION))


def _present(parameters: Mapping[str, str], name: str, code: Code) -> str:
    value = parameters.get(name)
    if not value:
        raise ApiError(code)
    return value


def _check_version(parameters: Mapping[str, str]) -> None:
    version = _present(parameters, "v", Code.MISSING_VERSION)
    if version != _VERSION:
        known_form = version.replace(".", "", 1).isdigit()
        raise ApiError(Code.UNSUPPORTED_VERSION if known_form else Code.INVALID_VERSION)


@lru_cache(maxsize=_KEPT_TIMESTAMPS)
def _timestamp(text: str) -> int:
    """Seconds since the epoch of the GMT+8 text or, as generated SDKs send it, epoch milliseconds."""
    if len(text) == _MILLISECONDS_DIGITS and text.isascii() and text.isdigit():
        return int(text) // 1000
    try:
        return wire.second_of(text)
    except ValueError:
        raise ApiError(Code.INVALID_TIMESTAMP) from None


def _check_signature(parameters: Mapping[str, str], secret: str) -> None:
    told = _present(parameters, "sign", Code.MISSING_SIGNATURE)
    try:
        method = SignMethod(parameters.get("sign_method", ""))
    except ValueError:
        raise ApiError(Code.INVALID_SIGNATURE) from None
    if not hmac.compare_digest(told.encode(), sign(parameters, secret, method).encode()):
        raise ApiError(Code.INVALID_SIGNATURE)


def _check_format(parameters: Mapping[str, str]) -> None:
    if parameters.get("format", "xml") not in _FORMATS:
        raise ApiError(Code.INVALID_FORMAT)
