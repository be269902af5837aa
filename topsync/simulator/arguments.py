"""The application arguments of a call, read strictly (docs/platform/gateway.md 1.3, 3)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from topsync.simulator import wire
from topsync.simulator.errors import invalid, missing
from topsync.simulator.fields import FieldMask, parse_fields

_LARGEST_NUMBER = 2**63 - 1
_MOST_DIGITS = 19


class Arguments:
    """Reads an argument at a time; absent and empty are the same.

    Every method raises ApiError: 40 when a required argument is absent, 41 when an argument is malformed.
    """

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self._parameters = parameters

    def text(self, name: str) -> str | None:
        """The value as sent, or None."""
        return self._parameters.get(name) or None

    def required(self, name: str) -> str:
        """The value as sent."""
        value = self.text(name)
        if value is None:
            raise missing(name)
        return value

    def number(self, name: str) -> int:
        """A required whole number that fits 64 bits."""
        value = self.required(name)
        if not (value.isascii() and value.isdigit()) or len(value) > _MOST_DIGITS:
            raise invalid(name, "不是数字")
        number = int(value)
        if number > _LARGEST_NUMBER:
            raise invalid(name, "数字过大")
        return number

    def number_within(self, name: str, low: int, high: int, default: int) -> int:
        """An optional whole number with bounds."""
        if self.text(name) is None:
            return default
        number = self.number(name)
        if not low <= number <= high:
            raise invalid(name, f"取值范围：{low}-{high}")
        return number

    def flag(self, name: str) -> bool:
        """An optional boolean, false when absent."""
        value = self.text(name)
        if value not in (None, "true", "false"):
            raise invalid(name, "只能是true或false")
        return value == "true"

    def second(self, name: str) -> int | None:
        """An optional platform time, as seconds since the epoch."""
        value = self.text(name)
        if value is None:
            return None
        try:
            return wire.second_of(value)
        except ValueError:
            raise invalid(name, "时间格式：yyyy-MM-dd HH:mm:ss") from None

    def required_second(self, name: str) -> int:
        """A required platform time, as seconds since the epoch."""
        second = self.second(name)
        if second is None:
            raise missing(name)
        return second

    def day(self, name: str) -> date:
        """A required platform day, `yyyyMMdd`."""
        value = self.required(name)
        if len(value) != len("yyyymmdd") or not (value.isascii() and value.isdigit()):
            raise invalid(name, "日期格式：yyyyMMdd")
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise invalid(name, "日期格式：yyyyMMdd") from None

    def fields(self) -> FieldMask:
        """The required `fields`."""
        return parse_fields(self.required("fields"))

    def names(self, name: str) -> frozenset[str] | None:
        """An optional comma-separated list."""
        value = self.text(name)
        return None if value is None else frozenset(part.strip() for part in value.split(",") if part.strip())

    def refuse_unsimulated(self, *names: str) -> None:
        """Refuse arguments that the platform knows and the simulator does not: silence would mislead."""
        for name in names:
            if self.text(name) is not None:
                raise invalid(name, "simulator: this filter is not simulated")
