"""`taobao.time.get` (docs/platform/gateway.md 3.11)."""

from __future__ import annotations

from topsync.simulator.checks import Api, Call
from topsync.simulator.clock import PlatformClock
from topsync.simulator.wire import Json, time_text


def apis(clock: PlatformClock) -> tuple[Api, ...]:
    """The family's methods."""

    def time_get(_: Call) -> Json:
        return {"time": time_text(clock.second())}

    return (Api("taobao.time.get", time_get, needs_session=False),)
