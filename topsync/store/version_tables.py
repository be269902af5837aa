"""The tables of all kinds, and statements that go over them.

What concerns a single table is in `sql/versions.sql`. A statement that speaks of several tables is written
once, too: its file says for a piece of it that it is there for each table (`-- each kind`), or for each table
of a kind that belongs to an order (`-- each part`). In the piece, `{kind}`, `{table}` and `{key}` are the
kind's word, its table, and the column with the id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, TypeAlias

from topsync.model.kind import PARTS, Kind
from topsync.store import orders, refunds
from topsync.store.database import sql
from topsync.store.versions import VersionTable

AnyTable: TypeAlias = "VersionTable[Any, Any]"

TABLES: Final[Mapping[Kind, AnyTable]] = {table.kind: table for table in (orders.TABLE, refunds.TABLE)}

_PIECE: Final = re.compile(
    r"^ *-- each (?P<of>kind|part)(?:, joined by (?P<joint>[^\n]+))?\n(?P<text>.*?)^ *-- end\n?",
    re.MULTILINE | re.DOTALL,
)


@cache
def sql_over(name: str) -> str:
    """A statement by its name, `noun.verb`, with its pieces for each table."""
    return _PIECE.sub(_repeated, sql(name))


def _repeated(piece: re.Match[str]) -> str:
    kinds = Kind if piece["of"] == "kind" else PARTS
    joint = f"{piece['joint']}\n" if piece["joint"] else ""
    return joint.join(_filled(piece["text"], kind) for kind in kinds)


def _filled(text: str, kind: Kind) -> str:
    for name, filling in {"kind": kind.value, "table": kind.plural, "key": kind.id_name}.items():
        text = text.replace(f"{{{name}}}", filling)
    return text
