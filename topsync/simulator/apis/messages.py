"""`taobao.tmc.user.permit` (reference/top-api.md 3.12)."""

from __future__ import annotations

from topsync.simulator.checks import Api, Call
from topsync.simulator.errors import invalid
from topsync.simulator.subscriptions import Subscriptions
from topsync.simulator.wire import Json

_MAX_TOPICS = 100


def apis(subscriptions: Subscriptions) -> tuple[Api, ...]:
    """The family's methods."""

    def user_permit(call: Call) -> Json:
        topics = call.arguments.names("topics")
        if topics is not None and len(topics) > _MAX_TOPICS:
            raise invalid("topics", f"最多{_MAX_TOPICS}个")
        subscriptions.permit(call.seller, topics)
        return {"is_success": True}

    return (Api("taobao.tmc.user.permit", user_permit),)
