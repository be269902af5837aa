"""One order, from its message to the topic: in the story for operators, and in the logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support import systems
from tests.support.eventually import eventually
from topsync.local.system import System

pytestmark = pytest.mark.asyncio(loop_scope="package")

SERVICES = ("push", "enrich", "reconcile")


def steps(folder: Path, service: str, tid: int) -> list[dict[str, Any]]:
    """What a service has logged of an order, found by its id alone."""
    lines = (folder / f"{service}.log").read_bytes().splitlines()
    found = [orjson.loads(line) for line in lines if str(tid).encode() in line and line.startswith(b"{")]
    return [line for line in found if line.get("tid") == tid]


async def story(calm: System, tid: int) -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads(await calm.run("orders", "explain", str(tid), "--json"))
    return document


async def is_published(calm: System, tid: int) -> bool:
    query = "select count(*) from orders where tid = $1 and published_revision = revision"
    return bool(await systems.value(calm, query, tid))


async def test_every_step_of_an_order_is_found_in_the_logs_by_its_tid(calm: System) -> None:
    seller, *_ = await systems.seller_ids(calm)
    (created,) = await systems.change(calm, seller, "create")
    await eventually(lambda: is_published(calm, created.tid))

    async def all_logged() -> bool:
        logged = {
            one["event"] for service in SERVICES for one in steps(calm.group.folder, service, created.tid)
        }
        return logged >= {
            "message received", "hint published", "hint read", "fetch begun", "fetch ended", "stored",
            "published",
        }  # fmt: skip

    await eventually(all_logged)
    enrich = {one["event"]: one for one in steps(calm.group.folder, "enrich", created.tid)}
    assert enrich["hint read"]["source"] == "push"
    assert enrich["fetch ended"]["outcome"] == "fetched"
    assert enrich["published"]["transitions"]
    assert all(one["level"] == "debug" for one in enrich.values())


async def test_the_story_of_an_order_that_just_came_leads_to_the_topic(calm: System) -> None:
    seller, *_ = await systems.seller_ids(calm)
    (created,) = await systems.change(calm, seller, "create")
    await eventually(lambda: is_published(calm, created.tid))

    shown = await story(calm, created.tid)

    kinds = [one["kind"] for one in shown["events"]]
    assert kinds.index("message") < kinds.index("published")
    assert {"platform", "fetch"} <= set(kinds)
    assert shown["standings"][-1]["standing"] == "published"
    assert shown["kafka_problem"] is None


async def test_an_order_of_the_bulk_export_says_where_it_came_from(calm: System) -> None:
    tid = await systems.value(calm, "select id from slice_rows where order_id is null limit 1")
    shown = await story(calm, tid)
    exported = [one for one in shown["events"] if one["kind"] == "export"]
    assert exported
    assert exported[0]["facts"]["task_id"].isdigit()
