"""Field types of the contract: 64-bit ids, money in yuan, platform times.

When read they accept every form that the platform has used (docs/platform/gateway.md 5.1). When written
(JSON), ids and money are text and times are UTC instants with offset, so that no reader can lose digits in a
floating-point number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Annotated

import orjson
from pydantic import AfterValidator, GetCoreSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

from schemas import platform_time

MAX_ID = 2**63 - 1
"""Ids are stored as PostgreSQL `bigint`."""

MAX_YUAN = Decimal(10**15)
"""A larger number is not an amount, and its digits could fill any length."""

MAX_DECIMAL_PLACES = 12
"""More decimal places are not an amount; the platform writes two."""

KEPT_AMOUNTS = 10_000
"""How many parsed amounts are cached; `KEPT_AMOUNT_CHARACTERS` is the longest text that is cached."""

KEPT_AMOUNT_CHARACTERS = 16

KEPT_TIMES = 10_000
"""How many parsed times are cached: an order's lines repeat the order's times, and so does its next fetch."""

PLATFORM_TIME_CHARACTERS = len("2025-11-20 10:30:00")

ID_PATTERN = "^[1-9][0-9]{0,18}$"
MONEY_PATTERN = r"^-?[0-9]+(\.[0-9]+)?$"
INSTANT_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?Z$"


def parse_id(value: object) -> int:
    """A platform id from a JSON number or digits in text.

    Raises:
        ValueError: anything else, a float above all: above 2^53 it has already lost digits.
    """
    if type(value) is str and value.isascii() and value.isdigit():
        value = int(value)
    if type(value) is not int:  # excludes booleans, too
        raise ValueError(f"not an id (an integer or digits): {type(value).__name__}")
    if not 0 < value <= MAX_ID:
        raise ValueError("an id must lie between 1 and 2^63 - 1")
    return value


def parse_money(value: object) -> Decimal:
    """An amount in yuan from the platform's text (`"186.00"`) or, from some third parties, a number."""
    # An order has dozens of amounts, most of them zero or seen before.
    if type(value) is str and len(value) <= KEPT_AMOUNT_CHARACTERS:
        return _kept_amount(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise ValueError(f"not an amount: {type(value).__name__}")
    return _amount(value)


def _amount(value: str | float | Decimal) -> Decimal:
    try:
        # repr() of a float is the shortest text that gives the same float: the digits that were sent.
        amount = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation as error:
        raise ValueError("not an amount in yuan") from error
    if not amount.is_finite():
        raise ValueError("not a finite amount")
    if abs(amount) >= MAX_YUAN or int(amount.as_tuple().exponent) < -MAX_DECIMAL_PLACES:
        raise ValueError("too large or too fine for an amount in yuan")
    return amount


_kept_amount = lru_cache(KEPT_AMOUNTS)(_amount)


def write_money(amount: Decimal) -> str:
    """The amount in digits, with the decimal places that were received; never with an exponent."""
    text = str(amount)  # faster than `format`
    return format(amount, "f") if "E" in text else text


def parse_instant(value: object) -> datetime:
    """A UTC instant from the platform's GMT+8 text, or from our own ISO 8601 form."""
    if isinstance(value, str):
        try:
            if len(value) == PLATFORM_TIME_CHARACTERS:
                return _kept_time(value)
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("not a time") from None
    if not isinstance(value, datetime):
        raise ValueError(f"not a time: {type(value).__name__}")
    if value.tzinfo is None:
        raise ValueError("a time needs an offset")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("not a time") from None


_kept_time = lru_cache(KEPT_TIMES)(platform_time.parse)


def write_instant(value: datetime) -> str:
    """ISO 8601 in UTC with a `Z`; seconds, and microseconds only if they are not 0."""
    instant = value if value.tzinfo is UTC else value.astimezone(UTC)
    # A fifth of the time that `isoformat` takes; there are several instants in each message.
    return orjson.dumps(instant, option=orjson.OPT_UTC_Z)[1:-1].decode()


def _fits(value: int, limit: int) -> int:
    if not -limit <= value < limit:
        raise ValueError("the number is too large")
    return value


Count = Annotated[int, AfterValidator(lambda value: _fits(value, 2**31))]
"""A count or a number that a PostgreSQL `integer` can hold."""

Milliseconds = Annotated[int, AfterValidator(lambda value: _fits(value, 2**63))]
"""Milliseconds since the epoch, within a PostgreSQL `bigint`."""


@dataclass(frozen=True, slots=True, eq=False)  # compared by identity, because annotations must have a hash
class Form:
    """How a value is read, by a single call without a second check of its type, and how it is written."""

    read: Callable[[object], object]
    written: core_schema.SerSchema

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read, serialization=self.written)


@dataclass(frozen=True, slots=True)
class ListOf:
    """Flattens the platform's `{"order": [...]}`; accepts absent, null, {} and a single object, too (1.6)."""

    item: str

    def flatten(self, value: object) -> list[object]:
        """The list, as far as it is one."""
        if value is None:
            return []
        if isinstance(value, dict):
            value = value.get(self.item, [])
        return value if isinstance(value, list) else [value]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.flatten, handler(source))


PlatformId = Annotated[
    int,
    Form(parse_id, core_schema.to_string_ser_schema(when_used="json")),
    WithJsonSchema({"type": "string", "pattern": ID_PATTERN}, mode="serialization"),
]
"""A 64-bit id: an integer here, digits in a text on the wire."""

Money = Annotated[
    Decimal,
    Form(
        parse_money,
        core_schema.plain_serializer_function_ser_schema(
            write_money, return_schema=core_schema.str_schema(), when_used="json"
        ),
    ),
    WithJsonSchema({"type": "string", "pattern": MONEY_PATTERN}, mode="serialization"),
]
"""Yuan: `Decimal` here, text on the wire."""

Instant = Annotated[
    datetime,
    Form(parse_instant, core_schema.simple_ser_schema("datetime")),
    WithJsonSchema(
        {"type": "string", "format": "date-time", "pattern": INSTANT_PATTERN}, mode="serialization"
    ),
]
"""A moment: an aware UTC `datetime` here, ISO 8601 in UTC with a `Z` on the wire."""
