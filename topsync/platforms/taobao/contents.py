"""From a message of the channel to a change, without I/O (docs/platform/channel.md 7)."""

from __future__ import annotations

from datetime import datetime, timedelta

from schemas.change import Hint
from schemas.types import parse_id
from topsync.base import json_bounds
from topsync.base.json_bounds import TooManyValuesError
from topsync.platforms.taobao.channel.messages import TmcMessage

ORDER_TOPICS = ("taobao_trade_", "taobao_refund_", "tmall_refund_")
"""Topics whose messages are about an order, or about a refund: a refund may change its order as well
(docs/platform/gateway.md 3.10)."""


AUTH_CANCEL_TOPIC = "taobao_top_AuthCancel"

TASK_COMPLETE_TOPIC = "taobao_topats_TaskComplete"
"""Its content is not documented (docs/platform/channel.md 7.5): only that it comes, and for whom, counts."""

MAX_CONTENT_VALUES = 10_000
"""A message has about twenty fields (docs/platform/channel.md 7.1). Many may come in a second, and the
receiving process parses all of them."""


class UnreadableMessageError(ValueError):
    """The message is about an order but does not say which, whose or when. The error quotes no content."""


def read_change(message: TmcMessage, *, received_at: datetime, detail_lag: timedelta) -> Hint | None:
    """The hint in a message; None for a message that is not about an order.

    Only the ids are taken: the other fields cannot be relied on (docs/platform/gateway.md 3.12).

    Raises:
        UnreadableMessageError: the content is not JSON, holds too much or names no order, the message names
            no valid seller, or its time is out of range.
    """
    if not message.topic.startswith(ORDER_TOPICS):
        return None
    try:
        content = json_bounds.loads(message.content, MAX_CONTENT_VALUES)
    except TooManyValuesError as error:
        raise UnreadableMessageError(f"content holds {error}") from None
    except ValueError:
        raise UnreadableMessageError("content is not JSON") from None
    if not isinstance(content, dict):
        raise UnreadableMessageError("content is not an object")
    try:
        tid = parse_id(content.get("tid"))
    except ValueError as error:
        raise UnreadableMessageError(f"tid: {error}") from None
    if message.user_id is None:
        raise UnreadableMessageError("the message names no seller")
    try:
        seller_id = parse_id(message.user_id)
    except ValueError as error:
        raise UnreadableMessageError(f"userid: {error}") from None
    occurred_at = message.published_at or received_at
    try:
        settled_after = occurred_at + detail_lag
    except OverflowError:
        raise UnreadableMessageError("the time is out of range") from None
    return Hint(
        seller_id,
        tid,
        message.topic,
        occurred_at,
        settled_after,
        received_at,
        refund_id=_refund_in(content),
    )


def _refund_in(content: dict[str, object]) -> int | None:
    """The refund that a message names; None if its id cannot be read: the order shows the refund as well."""
    if "refund_id" not in content:
        return None
    try:
        return parse_id(content["refund_id"])
    except ValueError:
        return None


def read_cancellation(message: TmcMessage) -> int | None:
    """The seller whose authorisation is withdrawn, according to a message; None for any other message.

    The content has `user_id` as well (docs/platform/channel.md 7.5). A message that names no seller changes
    nothing here; the next call for its seller is refused.
    """
    if message.topic != AUTH_CANCEL_TOPIC:
        return None
    if message.user_id is not None:
        return message.user_id
    try:
        content = json_bounds.loads(message.content, MAX_CONTENT_VALUES)
        return parse_id(content.get("user_id")) if isinstance(content, dict) else None
    except ValueError:
        return None
