"""`taobao.time.get` (docs/platform/gateway.md 3.11)."""

from __future__ import annotations

from topsync.simulator.checks import AdmittedCall, Api
from topsync.simulator.clock import PlatformClock
from topsync.simulator.wire import JsonObject, time_text


def apis(clock: PlatformClock) -> tuple[Api, ...]:
    """The family's methods."""

    def time_get(_: AdmittedCall) -> JsonObject:
        return {"time": time_text(clock.second())}

    return (Api("taobao.time.get", time_get, needs_session=False),)
