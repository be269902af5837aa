"""The rooms and who imports whom, read from the imports; prints them as a picture.

`python -m tests.support.rooms --write` puts the picture into docs/architecture.md.

The floors are import-linter's first contract (`pyproject.toml`), so the picture cannot show a floor that it
does not enforce. Left out are arrows that follow from other arrows, and arrows to `base`, `model` and
`schemas`, which nearly every room imports.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from typing import Final

import grimp

from tests.support.places import DOCS, ROOT

PAGE: Final = DOCS / "architecture.md"
BEGIN: Final = "<!-- the picture of the rooms: python -m tests.support.rooms --write -->\n"
END: Final = "<!-- the end of the picture -->\n"

GROUND: Final = ("topsync.base", "topsync.model", "schemas")
"""Rooms that nearly every room imports: arrows to them would say nothing."""

Imports = Mapping[str, frozenset[str]]


def floors() -> list[list[str]]:
    """The rooms, the highest floor first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    contract = next(each for each in settings["contracts"] if each["type"] == "layers")
    return [[room.strip() for room in floor.split("|")] for floor in contract["layers"]]


def imports() -> dict[str, frozenset[str]]:
    """Which other rooms each room imports, according to the code."""
    rooms = [room for floor in floors() for room in floor]
    packages = sorted({room.partition(".")[0] for room in rooms})
    graph = grimp.build_graph(*packages, cache_dir=None)
    found: dict[str, set[str]] = {room: set() for room in rooms}
    for module in graph.modules:
        importer = _room_of(module, rooms)
        imported = (_room_of(other, rooms) for other in graph.find_modules_directly_imported_by(module))
        if importer is not None:
            found[importer] |= {room for room in imported if room not in (None, importer)}
    return {room: frozenset(others) for room, others in found.items()}


def homeless() -> list[str]:
    """Modules and packages of the product that are on no floor."""
    rooms = [room for floor in floors() for room in floor]
    graph = grimp.build_graph(*sorted({room.partition(".")[0] for room in rooms}), cache_dir=None)
    return sorted(
        module
        for module in graph.modules
        if _room_of(module, rooms) is None and not any(room.startswith(module + ".") for room in rooms)
    )


def picture() -> str:
    """The picture as a Mermaid diagram."""
    above = imports()
    lines = ["```mermaid", "flowchart TD"]
    for number, floor in enumerate(floors()):
        names = "; ".join(f'{_node(room)}["{room.removeprefix("topsync.")}"]' for room in floor)
        lines.append(f'  subgraph floor{number} [" "]\n    direction LR\n    {names}\n  end')
    lines += [f"  {_node(room)} --> {_node(other)}" for room, other in _arrows(above)]
    return "\n".join([*lines, "```", ""])


def _arrows(above: Imports) -> Iterator[tuple[str, str]]:
    for room, others in above.items():
        shown = {other for other in others if other not in GROUND}
        reached = {far for other in shown for far in _reached(other, above)}
        for other in sorted(shown - reached):
            yield room, other


def _reached(room: str, above: Imports) -> set[str]:
    reached: set[str] = set()
    pending = list(above[room])
    while pending:
        if (other := pending.pop()) not in reached:
            reached.add(other)
            pending += above[other]
    return reached


def _room_of(module: str, rooms: list[str]) -> str | None:
    return next((room for room in rooms if module == room or module.startswith(room + ".")), None)


def _node(room: str) -> str:
    return room.replace(".", "_")


def with_picture(page: str) -> str:
    """The page with the picture as it is now.

    Raises:
        ValueError: the page has no place for the picture.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} lacks the two comments around the picture")
    return before + begin + picture() + end + after


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(with_picture(PAGE.read_text("utf-8")), "utf-8")
    else:
        print(picture())
