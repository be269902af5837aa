"""Reads the text of the sale-day calendar: TOML, with rules apart from the dates of each year. Pure."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from schemas import platform_time
from topsync.model.calendar import Calendar, EffectiveRules, RuleChanges, Sale

MAX_DATES: Final = 1_000
MAX_NAME_CHARACTERS: Final = 60
DAY_SECONDS: Final = 86_400.0

_HEADER: Final = re.compile(r"\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")


class CalendarError(ValueError):
    """The calendar is wrong. The text is one line: the line of the file, the field, the problem."""


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What a number may be."""

    least: float
    most: float
    above_least: bool = False
    whole: bool = False

    def problem(self, value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return f"must be a {'whole ' if self.whole else ''}number"
        too_small = value <= self.least if self.above_least else value < self.least
        if too_small or not value <= self.most:
            bound = "above" if self.above_least else "at least"
            return f"must be {bound} {self.least:g} and at most {self.most:g}"
        return None


_RATE: Final = _Bounds(0, 100_000, above_least=True)
_NUMBERS: Final[Mapping[str, _Bounds]] = {
    "visibility_allowance_seconds": _Bounds(0, DAY_SECONDS),
    "overlap_seconds": _Bounds(0, DAY_SECONDS),
    "sweep_interval_seconds": _Bounds(0, DAY_SECONDS),
    "retry_failures_after_seconds": _Bounds(0, 600),
    "calls_per_second": _RATE,
    "circuit_share": _Bounds(0, 1, above_least=True),
    "circuit_least_calls": _Bounds(1, 1_000_000, whole=True),
}
"""The numbers of a rule. A retry after more than ten minutes would come later than any caller waits."""
_API_LIMITS: Final = "api_limits"
_DATE_FIELDS: Final = ("sale", "rules", "start", "end")


def parse(text: str, usual: EffectiveRules) -> Calendar:
    """The calendar with this text, over the usual rules. Times in it are the platform's, GMT+8.

    Raises:
        CalendarError: it is no TOML, or a field is missing, unknown or wrong; the first that is found.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CalendarError(f"it is no TOML: {error}") from None
    reader = _Reader(text)
    for name in document.keys() - {"rules", "dates"}:
        raise reader.wrong((name,), "", "unknown; there are rules and dates")
    changes = {name: reader.rule(name, fields) for name, fields in reader.table(document, "rules").items()}
    dates = document.get("dates", [])
    if not isinstance(dates, list):
        raise reader.wrong(("dates",), "", "must be written as [[dates]], once for each time")
    if len(dates) > MAX_DATES:
        raise reader.wrong(("dates",), "", f"there are more than {MAX_DATES}")
    sales = [reader.sale(number, fields, changes) for number, fields in enumerate(dates)]
    return Calendar(usual, tuple(sorted(sales, key=lambda sale: sale.start)))


class _Reader:
    """Reads parts of the document, and finds the line of what is wrong."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()

    def table(self, document: Mapping[str, object], name: str) -> Mapping[str, object]:
        found = document.get(name, {})
        if not isinstance(found, Mapping):
            raise self.wrong((name,), "", "must be a table")
        return found

    def rule(self, name: str, fields: object) -> RuleChanges:
        where = ("rules", name)
        if not isinstance(fields, Mapping):
            raise self.wrong(where, "", "must be a table, [rules.NAME]")
        numbers: dict[str, float] = {}
        api_limits: Mapping[str, float] = {}
        for key, value in fields.items():
            if key == _API_LIMITS:
                api_limits = self._api_limits(where, value)
            elif key not in _NUMBERS:
                raise self.wrong(where, key, f"unknown; there are {', '.join([*_NUMBERS, _API_LIMITS])}")
            elif (problem := _NUMBERS[key].problem(value)) is not None:
                raise self.wrong(where, key, problem)
            else:
                numbers[key] = value
        least_calls = numbers.get("circuit_least_calls")
        return RuleChanges(
            visibility=_duration(numbers.get("visibility_allowance_seconds")),
            overlap=_duration(numbers.get("overlap_seconds")),
            sweep_interval=_duration(numbers.get("sweep_interval_seconds")),
            failure_wait=_duration(numbers.get("retry_failures_after_seconds")),
            calls_per_second=numbers.get("calls_per_second"),
            api_limits=api_limits,
            circuit_share=numbers.get("circuit_share"),
            circuit_least_calls=None if least_calls is None else math.floor(least_calls),
        )

    def _api_limits(self, where: tuple[str, ...], value: object) -> Mapping[str, float]:
        if not isinstance(value, Mapping):
            raise self.wrong(where, _API_LIMITS, 'must be a table, { "api" = calls per second }')
        for api, rate in value.items():
            problem = _RATE.problem(rate) if "." in api else 'write the name of the API as "a.b.c"'
            if problem is not None:
                raise self.wrong(where, f"{_API_LIMITS}.{api}", problem)
        return dict(value)

    def sale(self, number: int, fields: object, rules: Mapping[str, RuleChanges]) -> Sale:
        where = ("dates", str(number))
        if not isinstance(fields, Mapping):
            raise self.wrong(where, "", "must be a table")
        for key in fields.keys() - set(_DATE_FIELDS):
            raise self.wrong(where, key, f"unknown; there are {', '.join(_DATE_FIELDS)}")
        for key in _DATE_FIELDS:
            if key not in fields:
                raise self.wrong(where, key, "missing")
        name, rule = fields["sale"], fields["rules"]
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
            raise self.wrong(where, "sale", f"must be a name of up to {MAX_NAME_CHARACTERS} characters")
        if not isinstance(rule, str) or rule not in rules:
            known = ", ".join(sorted(rules)) or "none"
            raise self.wrong(where, "rules", f"names no rules of this file; there are {known}")
        start, end = (self._moment(where, key, fields[key]) for key in ("start", "end"))
        if start >= end:
            raise self.wrong(where, "end", "must be after start")
        return Sale(name, start, end, rules[rule])

    def _moment(self, where: tuple[str, ...], key: str, value: object) -> datetime:
        if not isinstance(value, datetime) or value.tzinfo is not None:
            raise self.wrong(
                where, key, "must be a time in GMT+8 without offset or quotes: 2026-11-11 00:00:00"
            )
        return platform_time.parse(value.strftime("%Y-%m-%d %H:%M:%S"))

    def wrong(self, where: tuple[str, ...], key: str, problem: str) -> CalendarError:
        """The error of a field of a table; of the table itself, where the key is empty."""
        header, nth = (where[0], int(where[1])) if where[0] == "dates" and where[1:] else (".".join(where), 0)
        field = ".".join(filter(None, (header, key)))
        return CalendarError(f"line {self._line_of(header, nth, key)}, {field}: {problem}")

    def _line_of(self, header: str, nth: int, key: str) -> int:
        """The line of a key; where it is not written on a line of its own, that of its table."""
        begun, table_line = False, 1
        written = re.compile(rf"\s*[\"']?{re.escape(key.split('.', 1)[0])}[\"']?\s*[=.]")
        in_file = 0
        for number, line in enumerate(self._lines, start=1):
            if (found := _HEADER.match(line)) is not None:
                named = found[1].replace('"', "").replace(" ", "")
                is_it = named == header.replace(" ", "") or (not key and named.startswith(f"{header}."))
                if begun:
                    break
                begun = is_it and in_file == nth
                in_file += is_it
                table_line = number if begun else table_line
            elif begun and key and written.match(line):
                return number
        return table_line


def _duration(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
