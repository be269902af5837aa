"""All faults, and the page that describes them. A new fault needs a class, and a row here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from topsync.simulator.faults import answers, calls, channel, exports
from topsync.simulator.faults.base import CallFault, Fault, Selective
from topsync.simulator.faults.exports import TaskFault
from topsync.simulator.wire import JsonObject

FAULTS: Mapping[str, type[Fault]] = {
    fault.name: fault
    for fault in (
        calls.Slow,
        calls.BadGateway,
        calls.Reset,
        calls.ClockSkew,
        calls.BanFault,
        calls.ServiceRejection,
        calls.IspError,
        calls.UnknownError,
        calls.SessionExpired,
        calls.AuthCancelled,
        calls.ClosedShop,
        calls.StaleDetail,
        calls.FreshTradeMissing,
        answers.RawNewline,
        answers.TruncatedBody,
        answers.EscapedText,
        answers.TextIds,
        answers.OneAsObject,
        answers.UnknownFields,
        answers.NewType,
        answers.UnlistedType,
        answers.PeakFault,
        answers.DegradedLists,
        answers.ModifiedAhead,
        answers.PagingMutation,
        exports.WrongMd5,
        exports.CutDownload,
        exports.SpentUrl,
        exports.FailedExport,
        exports.LateExport,
        exports.LostExport,
        exports.EmptyExport,
        exports.OtherDays,
        exports.BadLines,
        exports.RefusedExport,
        exports.UnnamedDuplicate,
        channel.Visibility,
        channel.Cut,
        channel.Silence,
        channel.HalfOpen,
        channel.Refuse,
        channel.Kick,
        channel.NewToken,
        channel.RawFrame,
        channel.Drop,
        channel.Expire,
        channel.Duplicate,
        channel.Reorder,
        channel.Delay,
        channel.DamagedFrame,
        channel.UnreadableContent,
        channel.GzipContent,
        channel.VoidFields,
    )
}
"""Every fault by its name in the admin interface and in scenario files."""


@dataclass(frozen=True, slots=True)
class FaultParameter:
    """One parameter of a fault, for people."""

    name: str
    bounds: str
    """Type, choices or range, and the default."""
    meaning: str

    def __str__(self) -> str:
        return f"`{self.name}` ({self.bounds}): {self.meaning}"


def fault_named(name: str) -> type[Fault]:
    """The class of a fault.

    Raises:
        KeyError: there is none; the text lists all names.
    """
    try:
        return FAULTS[name]
    except KeyError:
        raise KeyError(f"no fault is called {name!r}; there are {', '.join(FAULTS)}") from None


def parameters(fault: type[Fault]) -> Iterator[FaultParameter]:
    """All parameters of a fault, those of its own first."""
    properties: dict[str, Any] = fault.model_json_schema()["properties"]
    definitions: dict[str, Any] = fault.model_json_schema().get("$defs", {})
    required = {name for name, field in fault.model_fields.items() if field.is_required()}
    for name in sorted(properties, key=lambda name: name in Selective.model_fields or name == "api"):
        schema = properties[name]
        default = "required" if name in required else _default(schema.get("default"))
        bounds = ", ".join(filter(None, (_kind(schema, definitions), default)))
        yield FaultParameter(name, bounds, fault.model_fields[name].description or "")


def own_parameters(fault: type[Fault]) -> list[FaultParameter]:
    """The parameters that other faults of its kind do not have, or have in another form."""
    common = {str(each) for kind in (Fault, Selective, CallFault, TaskFault) for each in parameters(kind)}
    return [each for each in parameters(fault) if str(each) not in common]


def kinds(fault: type[Fault]) -> str:
    """Which common parameters it has: `S`: it picks by seller and chance; `A`: by API; `T`: by task."""
    if issubclass(fault, TaskFault):
        return "SAT"
    return "SA" if issubclass(fault, CallFault) else "S" if issubclass(fault, Selective) else ""


def as_json() -> JsonObject:
    """For the admin's `GET /faults`."""
    return {
        name: {
            "meaning": fault.meaning(),
            "client_must": fault.client_must,
            "reference": fault.reference,
            "parameters": fault.model_json_schema()["properties"],
        }
        for name, fault in FAULTS.items()
    }


def page() -> str:
    """The catalogue as the Markdown that docs/simulator.md holds."""
    common = "\n".join(f"- {each}" for each in _common_lines())
    rows = "\n".join(
        f"| `{name}` | {kinds(fault)} | {fault.meaning()} | {'<br>'.join(map(str, own_parameters(fault)))} "
        f"| {fault.client_must} | {fault.reference} |"
        for name, fault in FAULTS.items()
    )
    head = "| fault | picks | what happens | parameters | a correct client must | reference |"
    return f"{common}\n\n{head}\n| --- | --- | --- | --- | --- | --- |\n{rows}\n"


def _common_lines() -> Iterator[str]:
    for each in parameters(CallFault):
        kind = "all" if each.name == "after_seconds" else "A" if each.name == "api" else "S"
        yield f"{kind}: {each}"
    for each in parameters(TaskFault):
        if each.name not in CallFault.model_fields:
            yield f"T: {each}"


def _kind(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """The type of a parameter with its range or choices."""
    if "anyOf" in schema:
        return _kind(schema["anyOf"][0], definitions)
    if "$ref" in schema:
        return _kind(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "enum" in schema:
        return " / ".join(map(str, schema["enum"]))
    if schema["type"] == "array":
        return f"list of {_kind(schema['items'], definitions)}"
    return " ".join(filter(None, (schema["type"], _range(schema))))


def _range(schema: Mapping[str, Any]) -> str:
    """The bounds of a number or a text, in words."""
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, longest = schema.get("maximum"), schema.get("maxLength")
    if longest is not None:
        return f"up to {longest} characters"
    if low is not None:
        return f"{low} to {high}"
    return f"above {above}, to {high}" if above is not None else ""


def _default(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return f"default {', '.join(value)}"
    return f"default {str(value).lower() if isinstance(value, bool) else value if value != '' else 'empty'}"


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 -- the section of docs/simulator.md
