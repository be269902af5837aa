"""What the gateway checks before a service sees a call, and in which order (docs/platform/gateway.md 1.5)."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol, TypeAlias

from topsync.platforms.taobao.gateway.sign import SignMethod, digest, sign
from topsync.simulator import errors, wire
from topsync.simulator.arguments import Arguments
from topsync.simulator.errors import ApiError, Code
from topsync.simulator.faults.base import Visit
from topsync.simulator.faults.board import Meeting
from topsync.simulator.faults.effects import CLEAR, Vision
from topsync.simulator.sellers import SimulatedSeller
from topsync.simulator.settings import Check, PlatformQuirks
from topsync.simulator.wire import JsonObject

CLOCK_TOLERANCE_SECONDS = 600
"""A timestamp may be off by ten minutes, either way."""

UNKNOWN_API = "unknown"
"""The name under which calls of unknown methods are counted."""

_VERBS = ("GET", "POST")
_VERSION = "2.0"
_FORMATS = ("json", "xml")
_SIGN_METHODS = {method.value: method for method in SignMethod}
_MISSING = {
    "method": Code.MISSING_METHOD,
    "app_key": Code.MISSING_APP_KEY,
    "v": Code.MISSING_VERSION,
    "timestamp": Code.MISSING_TIMESTAMP,
    "sign": Code.MISSING_SIGNATURE,
    "session": Code.MISSING_SESSION,
}
_MILLISECONDS_DIGITS = 13
_KEPT_TIMESTAMPS = 1024
"""Timestamps to cache: most calls of a second have the same."""


class AdmittedCall(NamedTuple):
    """A call that has passed the gateway's checks."""

    app_key: str
    arguments: Arguments
    granted: SimulatedSeller | None
    """The seller of its session; None for an API that needs no session."""
    vision: Vision = CLEAR
    """How far the service that answers is behind the truth."""

    @property
    def seller(self) -> SimulatedSeller:
        """The seller of an API that needs a session."""
        if self.granted is None:
            raise ApiError(Code.MISSING_SESSION)
        return self.granted


@dataclass(frozen=True, slots=True)
class Api:
    """A method: what it needs, and the function that answers it (raises ApiError)."""

    name: str
    answer: Callable[[AdmittedCall], JsonObject]
    needs_session: bool = True


_Step: TypeAlias = "Callable[[Api, Mapping[str, str], Meeting], SimulatedSeller | None]"
"""A check, which raises ApiError. The session's check returns the seller."""


class KnownGrants(Protocol):
    """Who may call for which seller."""

    def owner_of(self, token: str) -> SimulatedSeller | None:
        """The seller of a session, also when it has ended, as far as known."""

    def admit(self, token: str) -> SimulatedSeller:
        """The seller of a session that works; raises ApiError."""


class Doorkeeper:
    """The checks, with the values that they compare with."""

    def __init__(
        self,
        *,
        apis: Mapping[str, Api],
        apps: Mapping[str, str],
        authorisations: KnownGrants,
        second: Callable[[], int],
        quirks: PlatformQuirks,
    ) -> None:
        """`apps`: app_key to app_secret; `second`: the platform's time."""
        self._apis = apis
        self._apps = apps
        self._authorisations = authorisations
        self._second = second
        self._quirks = quirks
        steps: Mapping[Check, _Step] = {
            Check.VERSION: self._check_version,
            Check.TIMESTAMP: self._check_timestamp,
            Check.SIGNATURE: self._check_signature,
            Check.FORMAT: self._check_format,
            Check.FREQUENCY: self._check_frequency,
            Check.PERMISSION: self._check_permission,
            Check.SESSION: self._check_session,
        }
        self._steps = [steps[check] for check in quirks.check_order]

    def visit(self, parameters: Mapping[str, str]) -> Visit:
        """The call as it says it is, before any check."""
        method = parameters.get("method", "")
        api = method if method in self._apis else UNKNOWN_API
        return Visit(api, self._authorisations.owner_of(parameters.get("session", "")), parameters)

    def admit(self, verb: str, parameters: Mapping[str, str], meeting: Meeting) -> tuple[Api, AdmittedCall]:
        """The method and the call, after all checks.

        `meeting` holds the faults that strike the call.

        Raises:
            ApiError: the first check that fails; docs/platform/gateway.md 1.5 suggests an order.
        """
        if verb not in _VERBS:
            raise ApiError(Code.HTTP_ACTION)
        api = self._apis.get(_present(parameters, "method"))
        if api is None:
            raise ApiError(Code.INVALID_METHOD)
        app_key = _present(parameters, "app_key")
        if app_key not in self._apps:
            system_error = self._quirks.unknown_app_is_a_system_error
            raise errors.unknown_app() if system_error else ApiError(Code.INVALID_APP_KEY)
        seller: SimulatedSeller | None = None
        for step in self._steps:
            seller = step(api, parameters, meeting) or seller
        return api, AdmittedCall(app_key, Arguments(parameters), seller, meeting.vision)

    def _check_version(self, _: Api, parameters: Mapping[str, str], __: Meeting) -> None:
        version = _present(parameters, "v")
        if version != _VERSION:
            known_form = version.replace(".", "", 1).isdigit()
            raise ApiError(Code.UNSUPPORTED_VERSION if known_form else Code.INVALID_VERSION)

    def _check_timestamp(self, _: Api, parameters: Mapping[str, str], meeting: Meeting) -> None:
        given = _timestamp(_present(parameters, "timestamp"))
        if abs(given - self._second() - meeting.delivery.skew_seconds) > CLOCK_TOLERANCE_SECONDS:
            raise ApiError(Code.INVALID_TIMESTAMP)

    def _check_signature(self, _: Api, parameters: Mapping[str, str], __: Meeting) -> None:
        given = _present(parameters, "sign")
        method = _SIGN_METHODS.get(parameters.get("sign_method", ""))
        if method is None:
            raise ApiError(Code.INVALID_SIGNATURE)
        secret = self._apps[parameters["app_key"]]
        if not hmac.compare_digest(given.encode(), self._signature(parameters, secret, method).encode()):
            raise ApiError(Code.INVALID_SIGNATURE)

    def _signature(self, parameters: Mapping[str, str], secret: str, method: SignMethod) -> str:
        if not self._quirks.empty_parameters_signed:
            return sign(parameters, secret, method)
        names = sorted(name for name in parameters if name != "sign")
        return digest("".join(name + parameters[name] for name in names), secret, method)

    def _check_format(self, _: Api, parameters: Mapping[str, str], __: Meeting) -> None:
        if parameters.get("format", "xml") not in _FORMATS:
            raise ApiError(Code.INVALID_FORMAT)

    def _check_frequency(self, _: Api, __: Mapping[str, str], meeting: Meeting) -> None:
        meeting.limit()

    def _check_permission(self, api: Api, _: Mapping[str, str], __: Meeting) -> None:
        if api.name in self._quirks.closed_apis:
            raise errors.closed()

    def _check_session(self, api: Api, parameters: Mapping[str, str], _: Meeting) -> SimulatedSeller | None:
        if not api.needs_session:
            return None
        return self._authorisations.admit(_present(parameters, "session"))


def _present(parameters: Mapping[str, str], name: str) -> str:
    value = parameters.get(name)
    if not value:
        raise ApiError(_MISSING[name])
    return value


@lru_cache(maxsize=_KEPT_TIMESTAMPS)
def _timestamp(text: str) -> int:
    """Seconds since the epoch of the GMT+8 text or, as generated SDKs send it, epoch milliseconds."""
    if len(text) == _MILLISECONDS_DIGITS and text.isascii() and text.isdigit():
        return int(text) // 1000
    try:
        return wire.second_of(text)
    except ValueError:
        raise ApiError(Code.INVALID_TIMESTAMP) from None
