"""Every trade in the samples of the platform's answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import orjson

from tests.support.places import SAMPLES

FULL = "trade_fullinfo_get_paid_two_orders_one_refunding.json"
PRESALE = "trade_fullinfo_get_presale_step.json"


def complete(name: str) -> dict[str, object]:
    """The trade of a `trade_fullinfo_get` sample."""
    trade: dict[str, object] = orjson.loads((SAMPLES / name).read_bytes())["trade_fullinfo_get_response"][
        "trade"
    ]
    return trade


def all_trades() -> Iterator[tuple[str, dict[str, object]]]:
    """(name, trade) of each trade: details, export lines, rows of lists that have lines."""
    for path in sorted(SAMPLES.glob("trade*_get*.json")):
        for number, trade in enumerate(_trades_in(orjson.loads(path.read_bytes()))):
            yield f"{path.stem}-{number}", trade
    lines = (SAMPLES / "topats_export_lines.ndjson").read_bytes().split(b"\n")
    for number, line in enumerate(filter(None, map(bytes.strip, lines))):
        for trade in _trades_in(orjson.loads(line)):
            yield f"export-line-{number}", trade


def _trades_in(value: object) -> Iterator[dict[str, object]]:
    if isinstance(value, Mapping):
        if {"tid", "status", "created", "modified", "orders"} <= value.keys():
            yield dict(value)
            return
        for inner in value.values():
            yield from _trades_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _trades_in(inner)
