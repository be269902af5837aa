"""The message channel's methods: permits, groups, the queue over HTTP (docs/platform/gateway.md 3.12).

The group's WebSocket connections share the same queue (docs/platform/channel.md 4.6). Where the reference is
silent, we chose: an unknown group answers `isv.group-not-exist`, a seller who was never permitted answers
`isv.user-not-exist`; to delete a group that does not exist answers `false`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import repeat
from typing import Protocol

from schemas import platform_time
from topsync.simulator.arguments import Arguments
from topsync.simulator.channel.queue import DEFAULT_GROUP, MessageQueue, Queued
from topsync.simulator.checks import AdmittedCall, Api
from topsync.simulator.errors import ApiError, business, invalid
from topsync.simulator.sellers import SimulatedSeller
from topsync.simulator.subscriptions import TopicSubscriptions
from topsync.simulator.wire import JsonObject

_CARRIER = 0
"""The carrier of a message that was taken over HTTP; connections are numbered from 1."""

_BROKER = "simulated-broker"
_MAX_TOPICS = 100
_MAX_ROUTED_TOPICS = 20
_MAX_NICK_CHARACTERS = 100
_MAX_NICKS = 200
_MAX_GROUP_CHARACTERS = 32
_MAX_GROUP_NAMES = 20
_MAX_IDS = 200
_MOST_DIGITS = 19
_PLATFORMS = frozenset({"tbUIC", "icbu", "ae"})


class Queues(Protocol):
    """What the channel offers; an identity is an app's key and a group's name."""

    def add_group(self, identity: tuple[str, str]) -> bool:
        """Give a group a queue of its own; False when there is no room."""

    def queue_of(self, identity: tuple[str, str]) -> MessageQueue:
        """A group's queue; KeyError for a group that was never added."""

    def connect_token(self, identity: tuple[str, str]) -> str:
        """What `taobao.tmc.auth.get` answers."""


def apis(
    subscriptions: TopicSubscriptions,
    queues: Queues,
    sellers: Sequence[SimulatedSeller],
    publisher: str,
    now: Callable[[], datetime],
) -> tuple[Api, ...]:
    """The family's methods. `publisher` is the app key that messages name as their sender."""
    users = _Users(subscriptions, sellers)
    groups = _Groups(subscriptions, queues, sellers, now)
    messages = _Messages(subscriptions, queues, publisher, now)
    of_the_app = {
        "taobao.tmc.user.get": users.get,
        "taobao.tmc.user.cancel": users.cancel,
        "taobao.tmc.groups.get": groups.get,
        "taobao.tmc.group.add": groups.add,
        "taobao.tmc.group.delete": groups.delete,
        "taobao.tmc.topic.group.add": groups.route,
        "taobao.tmc.topic.group.delete": groups.unroute,
        "taobao.tmc.queue.get": messages.queue_get,
        "taobao.tmc.messages.consume": messages.consume,
        "taobao.tmc.messages.confirm": messages.confirm,
        "taobao.tmc.auth.get": messages.auth_get,
    }
    return (
        Api("taobao.tmc.user.permit", users.permit),
        *(Api(name, answer, needs_session=False) for name, answer in of_the_app.items()),
    )


class _Users:
    def __init__(self, subscriptions: TopicSubscriptions, sellers: Sequence[SimulatedSeller]) -> None:
        self._subscriptions = subscriptions
        self._by_nick = {seller.nick: seller for seller in sellers}

    def permit(self, call: AdmittedCall) -> JsonObject:
        topics = call.arguments.names("topics")
        if topics is not None and len(topics) > _MAX_TOPICS:
            raise invalid("topics", f"最多{_MAX_TOPICS}个")
        self._subscriptions.permit(call.seller, topics)
        return {"is_success": True}

    def get(self, call: AdmittedCall) -> JsonObject:
        fields = call.arguments.fields()
        if "topics" not in fields.whole:
            raise invalid("fields", "必须包含topics")
        seller = self._by_nick.get(_nick(call.arguments))
        permit = None if seller is None else self._subscriptions.permit_of(seller)
        if seller is None or permit is None:
            raise business("isv.user-not-exist:invalid-nick", "用户不存在")
        user: JsonObject = {
            "user_id": seller.user_id,
            "user_nick": seller.nick,
            "is_valid": permit.is_valid,
            "group_name": self._subscriptions.groups.of_seller(seller),
            "created": platform_time.format(permit.created),
            "modified": platform_time.format(permit.modified),
            "user_platform": "tbUIC",
        }
        if permit.topics:  # "all topics of the app" is written as no list
            user["topics"] = {"string": sorted(permit.topics)}
        return {"tmc_user": fields.pick(user)}

    def cancel(self, call: AdmittedCall) -> JsonObject:
        seller = self._by_nick.get(_nick(call.arguments))
        return {"is_success": seller is not None and self._subscriptions.cancel(seller)}


class _Groups:
    def __init__(
        self,
        subscriptions: TopicSubscriptions,
        queues: Queues,
        sellers: Sequence[SimulatedSeller],
        now: Callable[[], datetime],
    ) -> None:
        self._groups = subscriptions.groups
        self._queues = queues
        self._by_nick = {seller.nick: seller for seller in sellers}
        self._now = now

    def get(self, call: AdmittedCall) -> JsonObject:
        asked = call.arguments.names("group_names")
        if asked is not None and len(asked) > _MAX_GROUP_NAMES:
            raise invalid("group_names", f"最多{_MAX_GROUP_NAMES}个")
        page_no = call.arguments.number_within("page_no", 1, 1_000_000, 1)
        page_size = call.arguments.number_within("page_size", 1, 100, 40)
        names = [name for name in self._groups.names if asked is None or name in asked]
        page = names[(page_no - 1) * page_size : page_no * page_size]
        answer: JsonObject = {"total_results": len(names)}
        if page:
            answer["groups"] = {"tmc_group": [{"name": name} for name in page]}
        return answer

    def add(self, call: AdmittedCall) -> JsonObject:
        name = _group_name(call.arguments)
        sellers = self._sellers(call.arguments, required=True)
        self._make(call, name)
        self._groups.move(name, sellers)
        return {"group_name": name, "created": platform_time.format(self._now())}

    def delete(self, call: AdmittedCall) -> JsonObject:
        name = _group_name(call.arguments)
        sellers = self._sellers(call.arguments, required=False)
        if name not in self._groups:
            return {"is_success": False}
        if sellers:
            self._groups.take_out(name, sellers)
        else:
            self._groups.delete(name)
            self._queues.queue_of((call.app_key, name)).lose_all()
        return {"is_success": True}

    def route(self, call: AdmittedCall) -> JsonObject:
        name, topics = _group_name(call.arguments), _routed_topics(call.arguments)
        self._make(call, name)
        self._groups.route(name, topics)
        return {"result": True}

    def unroute(self, call: AdmittedCall) -> JsonObject:
        self._groups.unroute(_group_name(call.arguments), _routed_topics(call.arguments))
        return {"result": True}

    def _make(self, call: AdmittedCall, name: str) -> None:
        if not self._queues.add_group((call.app_key, name)):
            raise business("isv.group-service-error:too-many-groups", "分组过多")
        self._groups.add(name)

    def _sellers(self, arguments: Arguments, *, required: bool) -> list[SimulatedSeller]:
        nicks = arguments.names("nicks")
        if nicks is None and required:
            arguments.required("nicks")
        _check_platform(arguments)
        if nicks is not None and len(nicks) > _MAX_NICKS:
            raise invalid("nicks", f"最多{_MAX_NICKS}个")
        if unknown := (nicks or frozenset()) - self._by_nick.keys():
            raise business("isv.user-not-exist:invalid-nicks", f"{len(unknown)}个用户不存在")
        return [self._by_nick[nick] for nick in nicks or ()]


class _Messages:
    def __init__(
        self, subscriptions: TopicSubscriptions, queues: Queues, publisher: str, now: Callable[[], datetime]
    ) -> None:
        self._groups = subscriptions.groups
        self._queues = queues
        self._publisher = publisher
        self._now = now

    def queue_get(self, call: AdmittedCall) -> JsonObject:
        name = call.arguments.required("group_name")
        today = self._queue(call, name).today(self._now())
        counts = {"name": name, "broker_name": _BROKER, "put_toal": today.put, "get_total": today.read}
        return {"datas": {"tmc_queue_info": [counts]}}

    def consume(self, call: AdmittedCall) -> JsonObject:
        quantity = call.arguments.number_within("quantity", 10, 200, 100)
        queue, now = self._queue(call, call.arguments.text("group_name")), self._now()
        queue.advance(now)
        rows: list[JsonObject] = []
        while len(rows) < quantity and (queued := queue.take(now, _CARRIER)) is not None:
            queue.counts.duplicated += queued.fate.copies
            rows.extend(repeat(self._row(queued), 1 + queued.fate.copies))
        return {"messages": {"tmc_message": rows}} if rows else {}

    def confirm(self, call: AdmittedCall) -> JsonObject:
        done, failed = _ids(call.arguments, "s_message_ids"), _ids(call.arguments, "f_message_ids")
        if not done and not failed:
            call.arguments.required("s_message_ids")
        queue = self._queue(call, call.arguments.text("group_name"))
        for message_id in failed:
            queue.fail(message_id, self._now())
        for message_id in done:
            queue.confirm(message_id)
        return {"is_success": True}

    def auth_get(self, call: AdmittedCall) -> JsonObject:
        name = call.arguments.required("group")
        self._queue(call, name)
        return {"result": self._queues.connect_token((call.app_key, name))}

    def _queue(self, call: AdmittedCall, name: str | None) -> MessageQueue:
        name = name or DEFAULT_GROUP
        if name not in self._groups:
            raise _no_group()
        return self._queues.queue_of((call.app_key, name))

    def _row(self, queued: Queued) -> JsonObject:
        message = queued.message
        return {
            "id": queued.id,
            "topic": message.topic,
            "pub_app_key": self._publisher,
            "pub_time": platform_time.format(message.published_at),
            "user_id": message.user_id,
            "user_nick": message.nick,
            "content": message.content,
        }


def _no_group() -> ApiError:
    return business("isv.group-not-exist:invalid-group_name", "分组不存在")


def _nick(arguments: Arguments) -> str:
    nick = arguments.required("nick")
    _check_platform(arguments)
    if len(nick) > _MAX_NICK_CHARACTERS:
        raise invalid("nick", f"最多{_MAX_NICK_CHARACTERS}个字符")
    return nick


def _check_platform(arguments: Arguments) -> None:
    if arguments.text("user_platform") not in (None, *_PLATFORMS):
        raise invalid("user_platform", f"取值范围：{','.join(sorted(_PLATFORMS))}")


def _group_name(arguments: Arguments) -> str:
    name = arguments.required("group_name")
    if len(name) > _MAX_GROUP_CHARACTERS or name.startswith(DEFAULT_GROUP):
        raise invalid("group_name", f"最多{_MAX_GROUP_CHARACTERS}个字符，不能以default开头")
    return name


def _routed_topics(arguments: Arguments) -> frozenset[str]:
    arguments.required("topics")
    topics = arguments.names("topics") or frozenset()
    if not 0 < len(topics) <= _MAX_ROUTED_TOPICS:
        raise invalid("topics", f"最多{_MAX_ROUTED_TOPICS}个")
    return topics


def _ids(arguments: Arguments, name: str) -> list[int]:
    texts = arguments.names(name) or frozenset()
    if len(texts) > _MAX_IDS:
        raise invalid(name, f"最多{_MAX_IDS}个")
    if not all(text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS for text in texts):
        raise invalid(name, "不是数字")
    return [int(text) for text in texts]
