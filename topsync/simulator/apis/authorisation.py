"""Sessions by way of the gateway, where the signature names the app (docs/platform/gateway.md 3.16, 5).

The platform has them over https alone. How they refuse is not documented: as the token endpoint does, in the
gateway's form.
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


def _granted(grant: Callable[[str], JsonObject], told: str) -> JsonObject:
    """The grant as a text of JSON, which is how the platform gives it here."""
    try:
        granted = grant(told)
    except GrantError as error:
        raise business(f"isv.{error.error.replace('_', '-')}", error.description) from None
    return {"token_result": orjson.dumps(granted).decode()}
