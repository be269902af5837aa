"""Scenario files in TOML: a platform's settings, and which faults strike its clients when."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from topsync.simulator.faults.base import Fault
from topsync.simulator.faults.catalogue import fault_named
from topsync.simulator.settings import SimulatorSettings

_MAX_BYTES = 1 << 20
_MAX_FAULTS = 1000
_SETTINGS = frozenset(
    {
        *("seed", "sellers", "orders", "history_days", "start_at", "rate", "day", "visibility_delay_seconds"),
        *("answer_seconds", "quirks", "exports", "oauth", "channel"),
    }
)
"""What a file may set; not addresses, keys or folders of the machine that runs it."""


class ScenarioError(ValueError):
    """A scenario file cannot be used; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Settings to change, and faults to switch on when the platform starts, in this order."""

    settings: Mapping[str, object]
    faults: tuple[Fault, ...]

    def applied_to(self, base: SimulatorSettings) -> SimulatorSettings:
        """The base settings, changed by those of the scenario.

        Raises:
            ScenarioError: a setting is unknown or has an impossible value.
        """
        changed: SimulatorSettings = _changed(base, self.settings, "settings")
        return changed


def load(path: Path) -> Scenario:
    """Read a scenario file.

    Raises:
        ScenarioError: it cannot be read, is not TOML, or names something unknown or impossible.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ScenarioError(f"{path}: {error.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise ScenarioError(f"{path}: more than {_MAX_BYTES} bytes")
    try:
        return parse(content.decode())
    except ValueError as error:  # not UTF-8, not TOML, or a problem of the scenario
        raise ScenarioError(f"{path}: {error}") from None


def parse(text: str) -> Scenario:
    """A scenario from its text.

    Raises:
        ScenarioError: it names something unknown or impossible.
        tomllib.TOMLDecodeError: it is not TOML.
    """
    document = tomllib.loads(text)
    if unknown := document.keys() - {"settings", "faults"}:
        raise ScenarioError(f"unknown: {', '.join(sorted(unknown))}; a scenario has settings and faults")
    settings, faults = document.get("settings", {}), document.get("faults", [])
    if not isinstance(settings, dict):
        raise ScenarioError("settings must be a table: [settings]")
    if not isinstance(faults, list) or len(faults) > _MAX_FAULTS:
        raise ScenarioError(f"faults must be at most {_MAX_FAULTS} tables: [[faults]]")
    if unknown := settings.keys() - _SETTINGS:
        raise ScenarioError(
            f"settings: unknown: {', '.join(sorted(unknown))}; there are {_listed(_SETTINGS)}"
        )
    scenario = Scenario(settings, tuple(_fault(number, each) for number, each in enumerate(faults, 1)))
    scenario.applied_to(SimulatorSettings())
    return scenario


def problems(error: ValidationError) -> str:
    """The errors of a validation in one line, without the given values."""
    return "; ".join(
        ": ".join(filter(None, (".".join(map(str, each["loc"])), each["msg"].removeprefix("Value error, "))))
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    )


def _fault(number: int, given: object) -> Fault:
    where = f"fault {number}"
    if not isinstance(given, dict) or not isinstance(name := given.get("fault"), str):
        raise ScenarioError(f'{where}: it needs a name: fault = "…"')
    try:
        kind = fault_named(name)
        return kind.model_validate({key: value for key, value in given.items() if key != "fault"})
    except KeyError as error:
        raise ScenarioError(f"{where}: {error.args[0]}") from None
    except ValidationError as error:
        raise ScenarioError(f"{where} ({name}): {problems(error)}") from None


def _changed(base: Any, given: Mapping[str, object], where: str) -> Any:  # noqa: ANN401 -- any settings class
    """A copy of a settings object with some fields replaced."""
    types = get_type_hints(type(base))
    if unknown := given.keys() - types.keys():
        raise ScenarioError(f"{where}: unknown: {', '.join(sorted(unknown))}; there are {_listed(types)}")
    changes: dict[str, object] = {}
    for field in fields(base):
        if field.name not in given:
            continue
        place, value, current = f"{where}.{field.name}", given[field.name], getattr(base, field.name)
        if is_dataclass(current):
            if not isinstance(value, dict):
                raise ScenarioError(f"{place} must be a table: [{place}]")
            changes[field.name] = _changed(current, value, place)
        else:
            changes[field.name] = _validated(types[field.name], value, place)
    return replace(base, **changes)


def _validated(kind: Any, value: object, place: str) -> object:  # noqa: ANN401 -- a type, or a union of them
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ScenarioError(f"{place}: {problems(error)}") from None


def _listed(names: Mapping[str, object] | frozenset[str]) -> str:
    return ", ".join(sorted(names))
