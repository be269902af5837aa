"""Details in batches: the answer for each trade of a task (docs/platform/gateway.md 4.4)."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from topsync.simulator import wire
from topsync.simulator.fields import FieldMask, parse_fields
from topsync.simulator.sellers import SimulatedSeller
from topsync.simulator.settings import PlatformQuirks
from topsync.simulator.wire import JsonObject
from topsync.simulator.world import World


def subtasks(
    world: World, quirks: PlatformQuirks, seller: SimulatedSeller, tids: Sequence[str], fields: str
) -> list[JsonObject]:
    """A row for each trade, in the order of the request; both texts are JSON in a string."""
    mask = parse_fields(fields)
    rows: list[JsonObject] = []
    for tid in tids:
        trade = _detail(world, seller, int(tid), mask)
        rows.append(
            {
                "sub_task_request": _text({"fields": fields, "tid": tid}),
                "sub_task_result": _failure() if trade is None else _success(trade, quirks),
                "is_success": trade is not None,
            }
        )
    return rows


def _detail(world: World, seller: SimulatedSeller, tid: int, mask: FieldMask) -> JsonObject | None:
    number = world.number_of(seller, tid)
    if number is None or world.book(seller).events(number)[0].at < world.oldest_reachable():
        return None
    return mask.pick(world.trade(seller, number))


def _success(trade: JsonObject, quirks: PlatformQuirks) -> str:
    answer = {"trade": wire.with_text_ids(trade) if quirks.ids_as_strings else trade}
    return _text(answer if quirks.bare_batch_details else {"trade_fullinfo_get_response": answer})


def _failure() -> str:
    return _text({"sub_code": "isv.trade-not-exist", "sub_msg": "交易不存在"})


def _text(value: object) -> str:
    return orjson.dumps(value).decode()
