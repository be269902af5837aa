"""The contract as documents: a JSON Schema for each value, and an AsyncAPI 3 document of the topics.

They are generated from the models (`schemas`) and the topic registry, and committed in `schemas/`. Committed
documents count as released: others have built on them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from schemas import compatibility, events, json_schema
from schemas.events import EventType
from schemas.json_schema import Json
from schemas.types import INSTANT_PATTERN
from topsync.base.errors import OperatorError
from topsync.base.settings import KafkaSettings
from topsync.contract import examples
from topsync.stream import topics
from topsync.stream.topics import Topic

ASYNCAPI: Final = "asyncapi.json"
FOLDER: Final = Path(events.__file__).parent
"""The folder of the released documents: in the package, so that an installed topsync can check itself."""

KAFKA_BINDING_VERSION: Final = "0.5.0"
BINDING_CONFIG: Final = ("cleanup.policy", "retention.ms", "delete.retention.ms")
"""The entries of a topic's configuration for which the Kafka binding has a place."""

INTERNAL: Final = frozenset({"changes", "snapshots", "dead_letters"})
"""Topics that are described only for operators; they may change with any release."""

ASKED: Final = frozenset({"signals"})
"""Topics that others write and topsync reads."""

Documents = Mapping[str, Json]
"""Parsed JSON by path within the folder."""


class ContractError(OperatorError):
    """The contract would break for others, or differs from what is committed."""


@dataclass(frozen=True, slots=True)
class ContractFinding:
    """A way in which the code differs from the released documents."""

    document: str
    what: str
    is_breaking: bool

    def __str__(self) -> str:
        return f"{'BREAKS' if self.is_breaking else 'compatible'}  {self.document}: {self.what}"


def documents() -> Documents:
    """All documents, as the code describes them now."""
    return {
        **{schema_path(name): json_schema.of(model, name) for name, model in events.SCHEMAS.items()},
        ASYNCAPI: _asyncapi(),
    }


def schema_path(name: str) -> str:
    """The path of the JSON Schema of that name, within the folder."""
    return f"json/{name}.json"


def read(folder: Path) -> Documents:
    """The documents in a folder; a missing document is left out."""
    paths = [folder / ASYNCAPI, *sorted((folder / "json").glob("*.json"))]
    return {
        path.relative_to(folder).as_posix(): json.loads(path.read_text("utf-8"))
        for path in paths
        if path.exists()
    }


def write(folder: Path, made: Documents) -> None:
    """Write all documents, leaving other files alone."""
    (folder / "json").mkdir(parents=True, exist_ok=True)
    for path, document in made.items():
        (folder / path).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")


def export(folder: Path) -> None:
    """Write the documents, unless that would break what the folder has promised to others.

    Raises:
        ContractError: it would break it; the text names each break and says what to do instead.
    """
    made = documents()
    broken = [finding for finding in compare(read(folder), made) if finding.is_breaking]
    if broken:
        breaks = "; ".join(f"{finding.document}: {finding.what}" for finding in broken)
        raise ContractError(
            f"this would break subscribers of the released contract: {breaks}. Keep the field as it was, or "
            "publish a new version of the event type beside the old one (docs/how-to)"
        )
    write(folder, made)


def compare(released: Documents, made: Documents) -> list[ContractFinding]:
    """How the contract in the code differs from the released contract, in words."""
    findings: list[ContractFinding] = []
    for path in sorted(released.keys() | made.keys()):
        if path not in made:
            findings.append(
                ContractFinding(path, "no longer described: its readers lose it", is_breaking=True)
            )
        elif path not in released:
            findings.append(ContractFinding(path, "new", is_breaking=False))
        elif released[path] != made[path]:
            found = _compare_events if path == ASYNCAPI else _compare_schemas
            findings += found(path, released[path], made[path])
    return findings


def _compare_schemas(path: str, old: Json, new: Json) -> list[ContractFinding]:
    changes = compatibility.changes(old, new)
    if not changes:
        return [ContractFinding(path, "only texts for people differ", is_breaking=False)]
    return [ContractFinding(path, str(change), is_breaking=change.breaks is not None) for change in changes]


def _compare_events(path: str, old: Json, new: Json) -> list[ContractFinding]:
    """Event types must stay, in their topic, with their headers and their value's schema."""
    findings = []
    before, after = _messages(old), _messages(new)
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            what = f"the event type {name} is gone: its subscribers would wait for ever"
            findings.append(ContractFinding(path, what, is_breaking=True))
        elif name not in before:
            findings.append(ContractFinding(path, f"the event type {name} is new", is_breaking=False))
        else:
            findings += [
                ContractFinding(path, f"{name}: {change}", is_breaking=change.breaks is not None)
                for change in _compare_messages(before[name], after[name])
            ]
    for moved in sorted(_places(old) - _places(new)):
        if moved[0] in after:
            what = f"{moved[0]} is not in {moved[1]} any more: subscribers do not find it"
            findings.append(ContractFinding(path, what, is_breaking=True))
    findings += _compare_cleanup(path, old, new)
    return findings or [
        ContractFinding(path, "only texts, examples or configuration differ", is_breaking=False)
    ]


def _compare_cleanup(path: str, old: Json, new: Json) -> list[ContractFinding]:
    """A topic keeps its cleanup policy: readers of a compacted topic expect all of its keys to stay."""
    before, after = _cleanup(old), _cleanup(new)
    return [
        ContractFinding(
            path,
            f"{address} is kept by {after[address]} and no longer by {before[address]}: a reader that "
            "starts at the beginning does not find what was there",
            is_breaking=True,
        )
        for address in sorted(before.keys() & after.keys())
        if before[address] != after[address]
    ]


def _compare_messages(old: Json, new: Json) -> list[compatibility.ContractChange]:
    changes = compatibility.changes(cast("Json", old["headers"]), cast("Json", new["headers"]))
    for what in ("payload", "contentType"):
        if old[what] != new[what]:
            changes.append(
                compatibility.ContractChange(
                    "", f"another {what}", "readers of the type do not understand the new form"
                )
            )
    if _key(old) not in (None, _key(new)):
        changes.append(
            compatibility.ContractChange(
                "",
                f"keyed by `{_key(new)}` and no longer by `{_key(old)}`",
                "records of a former key are in several partitions, in no order, and compaction keeps the "
                "old keys",
            )
        )
    return changes


def _key(message: Json) -> object:
    """What the message's key is; None in older documents, which do not say it."""
    return cast("dict[str, dict[str, Json]]", message["bindings"])["kafka"]["key"].get("title")


def _messages(document: Json) -> dict[str, Json]:
    return cast("dict[str, Json]", cast("Json", document["components"])["messages"])


def _places(document: Json) -> set[tuple[str, str]]:
    """(event type, address of its topic) of each message."""
    channels = cast("dict[str, Json]", document["channels"])
    return {
        (name, str(channel["address"]))
        for channel in channels.values()
        for name in cast("Json", channel["messages"])
    }


def _cleanup(document: Json) -> dict[str, object]:
    """The cleanup policy of each topic, by its address; Kafka's own default is `delete`."""
    channels = cast("dict[str, dict[str, Any]]", document["channels"])
    return {
        channel["address"]: ", ".join(
            channel["bindings"]["kafka"]["topicConfiguration"].get("cleanup.policy", ["delete"])
        )
        for channel in channels.values()
    }


def _asyncapi() -> Json:
    # Without the environment, which must not influence what is committed.
    settings = KafkaSettings.model_construct(topic_prefix="{prefix}")
    registry = topics.registry(settings)
    names = list(dict.fromkeys(event.topic for event in events.EVENTS))
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "topsync",
            "version": "1",
            "description": "Orders of Taobao and Tmall sellers and their refunds, complete and current, as "
            "CloudEvents 1.0 in Kafka's binary mode. The guide is docs/subscribers.md.",
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(name, registry.by_name[name]) for name in names},
        "operations": {
            f"{action}_{name}": {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "summary": f"topsync {verb} {name.replace('_', ' ')}.",
            }
            for name in names
            for action, verb in [("receive", "reads") if name in ASKED else ("send", "writes")]
        },
        "components": {"messages": {event.type: _message(event) for event in events.EVENTS}},
    }


def _channel(name: str, topic: Topic) -> Json:
    config = {key: value for key, value in topic.config.items() if key in BINDING_CONFIG}
    return {
        "address": topic.name,
        "description": topic.about + (" Internal: not part of the contract." if name in INTERNAL else ""),
        "parameters": {"prefix": {"default": "taobao", "description": "TOPSYNC_TOPIC_PREFIX"}},
        "messages": {
            event.type: {"$ref": f"#/components/messages/{event.type}"}
            for event in events.EVENTS
            if event.topic == name
        },
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "replicas": topic.replicas,
                "topicConfiguration": {
                    key: [value] if key == "cleanup.policy" else int(value) for key, value in config.items()
                },
                "bindingVersion": KAFKA_BINDING_VERSION,
            }
        },
    }


def _message(event: EventType) -> Json:
    made: Json = {
        "name": event.type,
        "title": event.type,
        "summary": event.about,
        "contentType": event.content_type,
        "headers": _headers(event),
        "payload": _payload(event),
        "bindings": {
            "kafka": {
                "key": {"type": "string", "title": events.KEYS[event.topic]},
                "bindingVersion": KAFKA_BINDING_VERSION,
            },
        },
    }
    example = examples.of(event)
    if example is not None:
        made["examples"] = [{"name": "example", "headers": example.headers, "payload": example.value}]
    return made


def _payload(event: EventType) -> Json:
    if event.schema is None:
        return {}
    # By reference, so that there is a single copy of each schema.
    return {
        "schemaFormat": "application/schema+json;version=draft-07",
        "schema": {"$ref": f"./{schema_path(event.schema)}"},
    }


def _headers(event: EventType) -> Json:
    text: Json = {"type": "string"}
    known: dict[str, Json] = {
        "content-type": {"const": event.content_type},
        "ce_specversion": {"const": "1.0"},
        "ce_type": {"const": event.type},
        "ce_source": {
            **text,
            "description": "Where it comes from. Source and id together identify duplicates.",
        },
        "ce_id": {**text, "description": "The same when the same event is written again."},
        "ce_subject": {**text, "description": "What it is about: the record's key."},
        "ce_time": {**text, "pattern": INSTANT_PATTERN, "description": "When it happened, platform time."},
    }
    if event.schema is not None:
        known["ce_dataschema"] = {"const": json_schema.uri(event.schema)}
    required = list(known)
    # Optional: the topics still hold older records that lack it.
    known["ce_traceparent"] = {
        **text,
        "description": "W3C Trace Context: which events belong together. It ends in 01 where sampled.",
    }
    for attribute in event.attributes:
        known[f"ce_{attribute.name}"] = {**text, "description": attribute.about}
        if attribute.required:
            required.append(f"ce_{attribute.name}")
    return {"type": "object", "properties": cast("Json", known), "required": required}
