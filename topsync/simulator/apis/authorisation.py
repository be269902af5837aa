"""Sessions by way of the gateway, where the signature names the app (docs/platform/gateway.md 3.16, 5).

The platform offers them over https alone. How they refuse is not documented. Here they refuse as the token
endpoint does, in the gateway's form.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from topsync.simulator.authorisations import Authorisations, GrantError
from topsync.simulator.checks import AdmittedCall, Api
from topsync.simulator.errors import business
from topsync.simulator.wire import JsonObject


def apis(authorisations: Authorisations) -> tuple[Api, ...]:
    """The family's methods."""

    def create(call: AdmittedCall) -> JsonObject:
        return _granted(authorisations.exchange, call.arguments.required("code"))

    def refresh(call: AdmittedCall) -> JsonObject:
        return _granted(authorisations.refresh, call.arguments.required("refresh_token"))

    return (
        Api("taobao.top.auth.token.create", create, needs_session=False),
        Api("taobao.top.auth.token.refresh", refresh, needs_session=False),
    )


def _granted(grant: Callable[[str], JsonObject], given: str) -> JsonObject:
    """The grant as JSON text, which is the platform's form for these methods."""
    try:
        granted = grant(given)
    except GrantError as error:
        raise business(f"isv.{error.error.replace('_', '-')}", error.description) from None
    return {"token_result": orjson.dumps(granted).decode()}
