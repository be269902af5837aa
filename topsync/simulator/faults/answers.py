# ruff: noqa: ARG002, D102 -- the base classes say what each method is for, and from what
"""Faults in the content of an answer, or in how its bytes are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar, cast

from pydantic import Field

from topsync.simulator import wire
from topsync.simulator.errors import ApiError
from topsync.simulator.faults.base import (
    DETAILS,
    FULLINFO,
    LISTS,
    LONGEST_SECONDS,
    CallFault,
    MessageFault,
    Strike,
    Visit,
)
from topsync.simulator.faults.effects import AnswerDelivery, Disturbance, Fate, ListChange, Vision
from topsync.simulator.life import TradeType
from topsync.simulator.wire import JsonObject, second_of, time_text

_ESCAPED_CONTROL = re.compile(rb"(?<!\\)((?:\\\\)*)\\([nrt])")
_CONTROLS: Mapping[bytes, bytes] = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_ENTITIES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;", "=": "&#61;"}
)

_PEAK_FIELDS = frozenset(
    {
        *(
            "orders",
            "oaid",
            "payment",
            "total_fee",
            "received_payment",
            "post_fee",
            "discount_fee",
            "adjust_fee",
        ),
        *("commission_fee", "available_confirm_fee", "has_post_fee", "pay_time", "step_paid_fee"),
        *("step_pay_details", "shipping_type", "consign_time", "promotion_details"),
    }
)
"""Lines, payment, logistics and oaid (docs/platform/gateway.md 6.3)."""

_FRAGILE_FIELDS = frozenset({"timeout_action_time", "commission_fee", "available_confirm_fee"})
_FRAGILE_LINE_FIELDS = frozenset({"refund_id", "special_refund_type", "timeout_action_time"})

_UNKNOWN_FIELDS: JsonObject = {"x_new_text": "新", "x_new_number": 2**60, "x_new_list": {"x_new_item": []}}


class RawNewline(CallFault):
    """Line breaks and tabs inside texts are not escaped, which is not valid JSON."""

    name = "raw_newline"
    client_must = "read JSON with control characters in texts, keeping them"
    reference = "docs/platform/gateway.md 1.6, 7 (10)"

    def delivery(self, delivery: AnswerDelivery) -> AnswerDelivery:
        return _damaged(delivery, with_raw_controls)


class TruncatedBody(CallFault):
    """The body ends in the middle, although HTTP says that it is complete."""

    name = "truncated_body"
    client_must = "treat it like no answer: retry, and use nothing of it"
    reference = "docs/platform/gateway.md 1.6, 2.1"

    keep_per_cent: int = Field(50, ge=0, le=99, description="share of the bytes that comes")

    def delivery(self, delivery: AnswerDelivery) -> AnswerDelivery:
        return _damaged(delivery, lambda body: body[: len(body) * self.keep_per_cent // 100])


class EscapedText(CallFault):
    """`sub_msg` is HTML-escaped, also the equals sign before the task id."""

    name = "escaped_text"
    client_must = "unescape it before looking for the seconds of a ban or for TaskId"
    reference = "docs/platform/gateway.md 1.6, 1.7, 7 (10)"

    def error(self, error: ApiError) -> ApiError:
        sub_msg = None if error.sub_msg is None else error.sub_msg.translate(_ENTITIES)
        return ApiError(error.code, error.sub_code, sub_msg)


class TextIds(CallFault, MessageFault):
    """Trade and order numbers come as strings, in answers and in messages."""

    name = "text_ids"
    client_must = "read ids from numbers and from digits alike, never as floating point"
    reference = "docs/platform/gateway.md 0 (warning 2), 5.1, 7 (9)"

    def answer(self, visit: Visit, answer: JsonObject) -> JsonObject:
        return cast(JsonObject, wire.with_text_ids(answer))

    def fate(self, fate: Fate, strike: Strike) -> Fate:
        return replace(fate, text_ids=True)


class OneAsObject(CallFault):
    """A list with a single element comes as that element, without the array."""

    name = "one_as_object"
    client_must = "accept both shapes"
    reference = "docs/platform/gateway.md 1.6"

    def answer(self, visit: Visit, answer: JsonObject) -> JsonObject:
        return cast(JsonObject, with_single_elements(answer))


class UnknownFields(CallFault, MessageFault):
    """Trades, lines, refunds and the channel's frames have fields that nobody knows."""

    name = "unknown_fields"
    client_must = "ignore them, go on working, and not treat an order as changed when they disappear"
    reference = "docs/platform/channel.md 4.2, 6.1; docs/platform/gateway.md 0 (warning 2)"

    def answer(self, visit: Visit, answer: JsonObject) -> JsonObject:
        return cast(JsonObject, _with_unknown_fields(answer)) | _UNKNOWN_FIELDS

    def fate(self, fate: Fate, strike: Strike) -> Fate:
        return replace(fate, extra_fields=True)


class NewType(CallFault):
    """Details show a trade type that nobody knows; lists show the orders all the same."""

    name = "new_type"
    client_must = "take the order as it comes, and tell people that lists are not asked for its type"
    reference = "docs/platform/gateway.md 5.5"
    apis = DETAILS

    type: str = Field("x_new_type", max_length=100, description="the type")

    def answer(self, visit: Visit, answer: JsonObject) -> JsonObject:
        return _with_trades(answer, lambda trade: {**trade, "type": self.type} if "type" in trade else trade)


class UnlistedType(CallFault):
    """Lists leave out orders of a type, although it is named in the call."""

    name = "unlisted_type"
    client_must = "find out by comparing what it has with the lists, and tell people which type it is"
    reference = "docs/platform/gateway.md 5.5"
    apis = LISTS

    type: TradeType = Field(TradeType.ETICKET, description="the type")

    def vision(self, vision: Vision) -> Vision:
        return replace(vision, unlisted=vision.unlisted | {self.type})


class PeakFault(CallFault):
    """A sale has opened: lists are late, and have no lines, payment, logistics or oaid."""

    name = "peak"
    client_must = "take only tids from lists, ask for details, and reach further back with each window"
    reference = "docs/platform/gateway.md 6.3, 7 (14)"
    apis: ClassVar[frozenset[str]] = LISTS

    late_seconds: int = Field(600, ge=0, le=LONGEST_SECONDS, description="by how much lists are late")

    def vision(self, vision: Vision) -> Vision:
        return replace(vision, lag_seconds=max(vision.lag_seconds, self.late_seconds))

    def answer(self, visit: Visit, answer: JsonObject) -> JsonObject:
        return _with_trades(answer, lambda trade: _without(trade, _PEAK_FIELDS))


class DegradedLists(CallFault):
    """Fields that the platform does not promise are missing from lists, outside sales too."""

    name = "degraded_lists"
    client_must = "never overwrite a stored value because a list left it out"
    reference = "docs/platform/gateway.md 1.6, 6.3"
    apis = LISTS
    also = frozenset({FULLINFO})

    def answer(self, visit: Visit, answer: JsonObject) -> JsonObject:
        return _with_trades(answer, _degraded)


class ModifiedAhead(CallFault):
    """Details have a `modified` that lies in the future."""

    name = "modified_ahead"
    client_must = "not treat it as the newest version, which would hide all changes until then, and ask again"
    reference = "docs/platform/gateway.md 1.8"
    apis = DETAILS

    ahead_seconds: int = Field(
        46_800, ge=1, le=LONGEST_SECONDS, description="by how much, from the true `modified`"
    )

    def answer(self, visit: Visit, answer: JsonObject) -> JsonObject:
        def ahead(trade: JsonObject) -> JsonObject:
            if "modified" not in trade:
                return trade
            modified = second_of(str(trade["modified"])) + self.ahead_seconds
            return {**trade, "modified": time_text(modified)}

        return _with_trades(answer, ahead)


class PagingMutation(CallFault):
    """While a client reads the pages of a list, orders of its window change, appear or become visible."""

    name = "paging_mutation"
    client_must = "read pages from the last to the first, count again, and find what moved in the next window"
    reference = "docs/platform/gateway.md 3.2, 6.1 (2, 3), 7 (2)"
    apis = LISTS

    changes: tuple[ListChange, ...] = Field(
        tuple(ListChange),
        min_length=1,
        max_length=len(ListChange),
        description="what happens after each page",
    )
    count: int = Field(1, ge=1, le=100, description="changes after each page")
    message: bool = Field(True, description="messages are sent about them")

    def disturbance(self, visit: Visit, strike: Strike) -> Disturbance | None:
        window = visit.window
        if visit.user_id is None or window is None:
            return None
        change = strike.dice.pick(self.changes)
        choice = strike.dice.below(1 << 32)
        return Disturbance(visit.user_id, window, change, self.count, self.message, choice)


def with_raw_controls(body: bytes) -> bytes:
    r"""The JSON with `\n`, `\r` and `\t` inside texts written as the characters themselves."""
    return _ESCAPED_CONTROL.sub(lambda found: found[1] + _CONTROLS[found[2]], body)


def with_single_elements(value: object) -> object:
    """A copy in which a list with a single object is replaced by the object."""
    if isinstance(value, dict):
        return {key: with_single_elements(item) for key, item in value.items()}
    if isinstance(value, list):
        items = [with_single_elements(item) for item in value]
        return items[0] if len(items) == 1 and isinstance(items[0], dict) else items
    return value


def _damaged(delivery: AnswerDelivery, damage: Callable[[bytes], bytes]) -> AnswerDelivery:
    return replace(delivery, damage=(*delivery.damage, damage))


def _with_trades(answer: JsonObject, alter: Callable[[JsonObject], JsonObject]) -> JsonObject:
    """A copy of an answer with each of its trades altered."""
    altered = dict(answer)
    if isinstance(trade := answer.get("trade"), dict):
        altered["trade"] = alter(trade)
    if isinstance(many := answer.get("trades"), dict):
        trades = many["trade"]
        altered["trades"] = {
            "trade": [alter(trade) for trade in (trades if isinstance(trades, list) else [trades])]
        }
    return altered


def _with_unknown_fields(value: object) -> object:
    """A copy in which trades, lines and refunds have fields that nobody knows."""
    if isinstance(value, list):
        return [_with_unknown_fields(item) for item in value]
    if not isinstance(value, dict):
        return value
    copy = {name: _with_unknown_fields(inner) for name, inner in value.items()}
    return copy | _UNKNOWN_FIELDS if copy.keys() & {"tid", "oid", "refund_id"} else copy


def _without(trade: JsonObject, names: frozenset[str]) -> JsonObject:
    return {name: value for name, value in trade.items() if name not in names}


def _degraded(trade: JsonObject) -> JsonObject:
    left = _without(trade, _FRAGILE_FIELDS)
    if isinstance(orders := left.get("orders"), dict):
        left["orders"] = {"order": [_without(line, _FRAGILE_LINE_FIELDS) for line in orders["order"]]}
    return left
