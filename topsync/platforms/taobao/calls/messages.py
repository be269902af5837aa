"""The message channel over HTTP: who is permitted, groups, and the queue itself (docs/platform/gateway.md
3.12).

Only `permit` is called in a seller's name; everything else in the app's. A group has a single queue, which
its WebSocket connections share (docs/platform/channel.md 4.6). topsync consumes over the WebSocket; the
queue's calls here are for operators, and for places where that port is closed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import SecretStr

from topsync.model.priority import Priority
from topsync.platforms.taobao.catalogue import SUBSCRIBED_TOPICS
from topsync.platforms.taobao.gateway import wire
from topsync.platforms.taobao.gateway.client import TopClient
from topsync.platforms.taobao.gateway.errors import BadAnswerError, DroppedError, RequestRefusedError
from topsync.platforms.taobao.gateway.requests import ApiRequest, Parameter

MAX_TOPICS: Final = 100
MAX_ROUTED_TOPICS: Final = 20
MAX_NICK_CHARACTERS: Final = 100
MAX_GROUP_CHARACTERS: Final = 32
MAX_GROUP_NAMES: Final = 20
MAX_NICKS: Final = 200
MIN_QUANTITY: Final = 10
MAX_QUANTITY: Final = 200
MAX_CONFIRMED: Final = 200

RESERVED_PREFIX: Final = "default"
"""Groups whose names begin with this belong to the platform."""


@dataclass(frozen=True, slots=True)
class TmcUser:
    """What the channel knows about a seller.

    Attributes:
        is_valid: the authorisation has neither expired nor been withdrawn.
        topics: the permitted topics; empty when all that the app subscribes to are permitted.
    """

    user_id: int
    nick: str = field(repr=False)
    is_valid: bool
    group: str | None
    topics: frozenset[str]


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """Messages put into and read from a group's queue since the platform's midnight, on one broker."""

    group: str
    broker: str
    put: int
    read: int


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message to be confirmed by its `id`. `content` is JSON text, which names buyers."""

    id: int
    topic: str
    content: str = field(repr=False)
    published_at: datetime
    user_id: int | None
    user_nick: str | None = field(repr=False)


async def permit(
    client: TopClient,
    session: SecretStr,
    topics: Sequence[str] = SUBSCRIBED_TOPICS,
    *,
    priority: Priority = Priority.BOOTSTRAP,
) -> None:
    """Let the channel carry exactly these topics of this seller. Any other topic is unsubscribed.

    Raises:
        ValueError: no topic, which would mean all topics, or more than 100.
        RequestRefusedError: the platform answered that it did not permit them.
    """
    if not 0 < len(topics) <= MAX_TOPICS:
        raise ValueError(f"between 1 and {MAX_TOPICS} topics can be permitted")
    request = ApiRequest("taobao.tmc.user.permit", {"topics": topics})
    if not _succeeded(await client.call(request, session=session, priority=priority)):
        raise RequestRefusedError("the subscription was not made", api=request.api)


async def user(client: TopClient, nick: str, *, priority: Priority) -> TmcUser | None:
    """What the channel knows about a seller; None for a seller who was never permitted.

    Raises:
        ValueError: the nick is longer than 100 characters.
    """
    _check_nick(nick)
    request = ApiRequest("taobao.tmc.user.get", {"fields": _USER_FIELDS, "nick": nick})
    try:
        answer = await client.call(request, priority=priority)
    except DroppedError:
        return None
    row = wire.object_in(answer, "tmc_user")
    return TmcUser(
        user_id=wire.as_id(row.get("user_id")),
        nick=wire.as_text(row.get("user_nick")),
        is_valid=wire.as_bool(row.get("is_valid")),
        group=wire.as_optional_text(row.get("group_name")),
        topics=frozenset(wire.texts(row, "topics")),
    )


async def cancel(client: TopClient, nick: str, *, priority: Priority) -> bool:
    """Stop all messages of a seller. Returns whether the channel knew the seller, so a repetition is False.

    Raises:
        ValueError: the nick is longer than 100 characters.
    """
    _check_nick(nick)
    return _succeeded(
        await client.call(ApiRequest("taobao.tmc.user.cancel", {"nick": nick}), priority=priority)
    )


async def groups(
    client: TopClient,
    names: Sequence[str] = (),
    *,
    page_no: int = 1,
    page_size: int = 40,
    priority: Priority,
) -> list[str]:
    """A page of the names of the app's groups; with `names`, only those of them that exist.

    Raises:
        ValueError: more than 20 names.
    """
    if len(names) > MAX_GROUP_NAMES:
        raise ValueError(f"at most {MAX_GROUP_NAMES} groups can be asked for")
    parameters: dict[str, Parameter] = {"group_names": names, "page_no": page_no, "page_size": page_size}
    answer = await client.call(ApiRequest("taobao.tmc.groups.get", parameters), priority=priority)
    return [wire.as_text(row.get("name")) for row in wire.items(answer, "groups", "tmc_group")]


async def add_group(client: TopClient, group: str, nicks: Sequence[str], *, priority: Priority) -> None:
    """Send these sellers' messages to a group from now on; it is created if it does not exist.

    Queued messages stay where they are, so keep consuming the former group until it is empty.

    Raises:
        ValueError: the name is empty, longer than 32 characters or reserved, or there are no nicks or more
            than 200.
    """
    _check_group(group)
    if not 0 < len(nicks) <= MAX_NICKS:
        raise ValueError(f"between 1 and {MAX_NICKS} sellers can be moved")
    await client.call(
        ApiRequest("taobao.tmc.group.add", {"group_name": group, "nicks": nicks}), priority=priority
    )


async def delete_group(
    client: TopClient, group: str, nicks: Sequence[str] = (), *, priority: Priority
) -> bool:
    """Delete a group, **with the messages in it**, or only take these sellers out of it.

    False when there is no such group; so it may also be False when the answer to a first attempt was lost.

    Raises:
        ValueError: as for `add_group`, except that no nick is needed.
    """
    _check_group(group)
    if len(nicks) > MAX_NICKS:
        raise ValueError(f"at most {MAX_NICKS} sellers can be taken out")
    request = ApiRequest("taobao.tmc.group.delete", {"group_name": group, "nicks": nicks})
    return _succeeded(await client.call(request, priority=priority))


async def route_topics(client: TopClient, group: str, topics: Sequence[str], *, priority: Priority) -> bool:
    """Send messages of these topics to a group, which is created. A seller's own group takes precedence.

    Raises:
        ValueError: the name is wrong as in `add_group`, or there are no topics or more than 20.
    """
    return await _route("taobao.tmc.topic.group.add", client, group, topics, priority)


async def unroute_topics(client: TopClient, group: str, topics: Sequence[str], *, priority: Priority) -> bool:
    """Undo `route_topics`.

    Raises:
        ValueError: as in `route_topics`.
    """
    return await _route("taobao.tmc.topic.group.delete", client, group, topics, priority)


async def queues(client: TopClient, group: str, *, priority: Priority) -> list[QueueCounts]:
    """Today's counts of a group's queue, per broker. Messages put but not read are the backlog."""
    answer = await client.call(ApiRequest("taobao.tmc.queue.get", {"group_name": group}), priority=priority)
    return [
        QueueCounts(
            wire.as_text(row.get("name")),
            wire.as_text(row.get("broker_name")),
            put=wire.as_count(row.get("put_toal")),  # the platform's spelling
            read=wire.as_count(row.get("get_total")),
        )
        for row in wire.items(answer, "datas", "tmc_queue_info")
    ]


async def consume(
    client: TopClient, *, quantity: int = 100, group: str | None = None, priority: Priority
) -> list[QueuedMessage]:
    """Take up to `quantity` messages; a message may come twice. After an empty answer, wait 100 ms.

    A message comes again after some minutes unless it is confirmed, so a lost answer costs time but loses no
    message.

    Raises:
        ValueError: the quantity is not between 10 and 200.
    """
    if not MIN_QUANTITY <= quantity <= MAX_QUANTITY:
        raise ValueError(f"between {MIN_QUANTITY} and {MAX_QUANTITY} messages can be taken at once")
    parameters: dict[str, Parameter] = {"quantity": quantity, "group_name": group}
    answer = await client.call(ApiRequest("taobao.tmc.messages.consume", parameters), priority=priority)
    return [_message(row) for row in wire.items(answer, "messages", "tmc_message")]


async def confirm(
    client: TopClient, ids: Sequence[int], *, group: str | None = None, priority: Priority
) -> None:
    """Confirm messages that are done. Confirming a message twice does no harm.

    Raises:
        ValueError: no message, or more than 200.
        RequestRefusedError: the platform answered that it did not confirm them.
    """
    if not 0 < len(ids) <= MAX_CONFIRMED:
        raise ValueError(f"between 1 and {MAX_CONFIRMED} messages can be confirmed at once")
    parameters: dict[str, Parameter] = {"s_message_ids": [str(each) for each in ids], "group_name": group}
    request = ApiRequest("taobao.tmc.messages.confirm", parameters)
    if not _succeeded(await client.call(request, priority=priority)):
        raise RequestRefusedError("the messages were not confirmed", api=request.api)


async def connection_token(client: TopClient, group: str, *, priority: Priority) -> SecretStr:
    """The token that a group's WebSocket connections carry.

    Raises:
        BadAnswerError: the answer has no token.
    """
    answer = await client.call(ApiRequest("taobao.tmc.auth.get", {"group": group}), priority=priority)
    token = answer.get("result")
    if not isinstance(token, str) or not token:
        raise BadAnswerError("the answer has no token", api="taobao.tmc.auth.get")
    return SecretStr(token)


_USER_FIELDS: Final = ("user_id", "user_nick", "is_valid", "group_name", "topics", "created", "modified")


def _check_nick(nick: str) -> None:
    if not 0 < len(nick) <= MAX_NICK_CHARACTERS:
        raise ValueError(f"a nick has 1 to {MAX_NICK_CHARACTERS} characters")


def _check_group(group: str) -> None:
    if not 0 < len(group) <= MAX_GROUP_CHARACTERS or group.startswith(RESERVED_PREFIX):
        raise ValueError(f"a group's name has 1 to {MAX_GROUP_CHARACTERS} characters, not first 'default'")


async def _route(api: str, client: TopClient, group: str, topics: Sequence[str], priority: Priority) -> bool:
    _check_group(group)
    if not 0 < len(topics) <= MAX_ROUTED_TOPICS:
        raise ValueError(f"between 1 and {MAX_ROUTED_TOPICS} topics can be routed at once")
    request = ApiRequest(api, {"group_name": group, "topics": topics})
    return wire.as_bool((await client.call(request, priority=priority)).get("result"))


def _succeeded(answer: Mapping[str, object]) -> bool:
    return wire.as_bool(answer.get("is_success"))


def _message(row: Mapping[str, object]) -> QueuedMessage:
    user_id = row.get("user_id")
    return QueuedMessage(
        id=wire.as_id(row.get("id")),
        topic=wire.as_text(row.get("topic")),
        content=wire.as_text(row.get("content")),
        published_at=wire.as_instant(row.get("pub_time")),
        user_id=None if wire.is_absent(user_id) else wire.as_id(user_id),
        user_nick=wire.as_optional_text(row.get("user_nick")),
    )
