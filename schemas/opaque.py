"""Values in the platform's own form: carried as they came, as far as they can be stored.

UTF-8 has no lone surrogates and PostgreSQL has no NUL: they become U+FFFD. An integer beyond 64 bits becomes
text; otherwise readers would lose its digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import orjson
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

MAX_DEPTH: Final = 100
"""Levels of a value. A value that is nested far deeper can be read, but not written again."""


def has_storable_texts(data: Mapping[str, object]) -> bool:
    """Whether surely no text in it has a NUL or a lone surrogate; true for nearly all objects.

    It looks at the data's JSON, because looking at each value would cost as much as the rest of the parsing.
    """
    try:
        text = orjson.dumps(data)  # refuses lone surrogates
    except TypeError:
        return False
    return b"\\" not in text or b"\\u0000" not in text


def storable_fields(data: Mapping[str, object], levels: int = MAX_DEPTH) -> dict[str, object]:
    """The data with every name and value made storable, to any depth that can be written.

    Raises:
        ValueError: something is nested deeper than that many levels.
    """
    return {storable_text(name): storable(value, levels) for name, value in data.items()}


def storable(value: object, levels: int = MAX_DEPTH) -> object:
    """The value made storable; raises as `storable_fields` does."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, dict | list):
        if not levels:
            raise ValueError("nested too deeply")
        if isinstance(value, list):
            return [storable(item, levels - 1) for item in value]
        return storable_fields(value, levels - 1)
    return value


def storable_text(text: str) -> str:
    """The text with U+FFFD in place of what UTF-8 or PostgreSQL cannot hold."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    return text if text.isascii() else text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


class _AnyJson:
    """Validates storable values natively, which nearly all are; `storable` handles the others."""

    @staticmethod
    def __get_pydantic_core_schema__(source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.union_schema(
            [
                core_schema.str_schema(strict=True),
                core_schema.bool_schema(strict=True),
                core_schema.int_schema(strict=True, ge=-(2**63), lt=2**63),
                core_schema.no_info_plain_validator_function(storable),
            ],
            mode="left_to_right",
            serialization=core_schema.simple_ser_schema("any"),
        )

    @staticmethod
    def __get_pydantic_json_schema__(schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {}


Opaque = Annotated[object, _AnyJson]
"""Any JSON value. Its texts are storable: see `has_storable_texts`."""
