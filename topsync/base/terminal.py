"""The only way to the terminal: sentences, tables, JSON and questions.

Whatever is printed passes through `topsync.base.shown`, so no command can forget it, and a table fits the
screen. Nothing else imports rich's consoles and tables (`pyproject.toml`, `banned-api`).
"""

from __future__ import annotations

import asyncio
import io
import os
import select
import shutil
import sys
import termios
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

import orjson
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from topsync.base.shown import CELL_CHARACTERS, shown, shown_json

FOLDED_COLUMNS: Final = 11
"""In narrower lines than this, a text cannot be read."""

GAP_COLUMNS: Final = 2
"""Between two columns."""

MAX_LINE_BYTES: Final = 64 * 1024
"""The longest answer to a question. The address of a callback has a few hundred bytes."""

MAX_ERROR_CHARACTERS: Final = 2000

LOOK_SECONDS: Final = 0.2
"""How late a Ctrl-C may be noticed that comes a moment before a line is waited for."""

CLEAR: Final = "\x1b[H\x1b[J"
"""To the screen's first place, and nothing behind it."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. A `whole` column never breaks: ids, dates, numbers. Any other column is folded.

    Where the screen is too narrow, the column with the highest `rank` is left out first; rank 0 always stays.
    """

    heading: str
    whole: bool = False
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Styled:
    """A cell's text with a style of rich, e.g. `bold red`."""

    text: str
    style: str


Cell = str | Styled


@dataclass(slots=True)
class Table:
    """A table of texts: each cell is shown as it is, in one line or folded, whatever is in it."""

    columns: Sequence[Column]
    title: str = ""
    headed: bool = True
    rows: list[tuple[Cell, ...]] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        """Add a row: a cell for each column."""
        assert len(cells) == len(self.columns)
        self.rows.append(cells)

    def fitted(self, width: int) -> tuple[RichTable, int, list[str]]:
        """The table for a screen of this width, the width it takes, and the headings that were left out."""
        texts = [[_text(cell) for cell in row] for row in self.rows]
        least = [
            _least(column, [row[at] for row in texts], self.headed) for at, column in enumerate(self.columns)
        ]
        kept = list(range(len(self.columns)))
        while _total(least, kept) > width:
            goes = max(kept, key=lambda at: (self.columns[at].rank, at))
            if not self.columns[goes].rank:
                break
            kept.remove(goes)
        table = RichTable(
            show_header=self.headed,
            box=box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=(0, GAP_COLUMNS - 1, 0, 0),
        )
        for at in kept:
            column = self.columns[at]
            table.add_column(Text(column.heading), no_wrap=column.whole, overflow="fold", min_width=least[at])
        for row in texts:
            table.add_row(*(row[at] for at in kept))
        left_out = [column.heading for at, column in enumerate(self.columns) if at not in kept]
        return table, max(width, _total(least, kept)), left_out


def facts(title: str) -> Table:
    """A table without headings: in each row a name, and what is known about it."""
    return Table((Column("", whole=True), Column("")), title=title, headed=False)


def _text(cell: Cell) -> Text:
    text, style = (cell.text, cell.style) if isinstance(cell, Styled) else (cell, "")
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    # Characters that the terminal lacks are escaped here already, so that the columns stay aligned.
    writable = shown(text, CELL_CHARACTERS).encode(encoding, "backslashreplace").decode(encoding)
    return Text(writable, style)


def _least(column: Column, cells: Sequence[Text], headed: bool) -> int:
    """The fewest columns of the screen that this column needs."""
    widths = [cell_len(cell.plain) for cell in cells]
    if column.whole:
        return max([*widths, cell_len(column.heading) if headed else 0])
    heading = max(map(cell_len, column.heading.split()), default=0) if headed else 0
    return max(heading, min(FOLDED_COLUMNS, max(widths, default=0)))


def _total(least: Sequence[int], kept: Sequence[int]) -> int:
    return sum(least[at] for at in kept) + GAP_COLUMNS * (len(kept) - 1)


def prepare() -> None:
    """Make output and errors escape characters that their encoding lacks, and replace closed streams.

    Call it first: either problem would otherwise end a command with a traceback.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 -- for good
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def console(file: TextIO | None = None, *, width: int | None = None, markup: bool = False) -> Console:
    """A console on standard output, or on a file. Pass it only our own text, or text from `shown`."""
    return Console(file=file, width=width, highlight=False, markup=markup, emoji=False)


def show(table: Table) -> None:
    """Print a table as it fits; columns that found no room are named below it."""
    fitted, width, left_out = table.fitted(console().width)
    # Where a whole column needs it, wider than the screen: what the terminal itself folds can be copied.
    out = console(width=width)
    if table.title:
        # Not as the table's own title: rich breaks that where the table is narrow.
        out.print(_text(Styled(table.title, "bold")), soft_wrap=True)
    out.print(fitted)
    if left_out:
        say(f"(no room for: {', '.join(left_out)})")


def say(*lines: str) -> None:
    """Print each text in a line of its own, however narrow the screen is: it may hold a command."""
    for line in lines:
        sys.stdout.write(f"{shown(line)}\n")


def filled(text: str, *, indent: int = 0) -> list[str]:
    """Our own text in lines that fit the screen after an indent; a word never breaks."""
    width = max(FOLDED_COLUMNS, console().width - indent)
    return textwrap.wrap(shown(text), width, break_long_words=False, break_on_hyphens=False)


def write(text: str) -> None:
    """Print our own text as it is, at once: a page, a key, addresses."""
    sys.stdout.write(text)
    sys.stdout.flush()


def redraw(text: str, rest: str) -> None:
    """Show our own text in the place of all that is on the screen; where it is too long, `rest` is its end.

    Where the output is no terminal, the text follows what is there.
    """
    if not sys.stdout.isatty():
        write(f"{text}\n")
        return
    lines, room = text.splitlines(), max(2, shutil.get_terminal_size().lines - 1)
    if len(lines) > room:
        lines = [*lines[: room - 1], rest]
    write(CLEAR + "\n".join(lines) + "\n")


def complain(line: str) -> None:
    """Print a line for the operator on standard error."""
    print(shown(line, MAX_ERROR_CHARACTERS), file=sys.stderr)  # noqa: T201 -- what this is for


def write_json(document: object) -> None:
    """Print a document for machines, in one line."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    text = orjson.dumps(document).decode()
    sys.stdout.write(shown_json(text, ascii_only=not encoding.lower().startswith("utf")) + "\n")


async def ask(question: str) -> str:
    """Ask the terminal, or the other end of the pipe, for a line; empty at the end of input.

    The event loop waits for it, so that Ctrl-C ends the command at once. Nothing beyond the line is read.
    """
    sys.stdout.write(question)
    sys.stdout.flush()
    try:
        return await _line()
    except asyncio.CancelledError:
        sys.stdout.write("\n")
        raise


async def _line() -> str:
    descriptor, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    read, done = bytearray(), loop.create_future()

    def take() -> bool:
        """Take the next byte; true at the end of the line."""
        byte = os.read(descriptor, 1)
        read.extend(byte)
        return byte in (b"", b"\n") or len(read) >= MAX_LINE_BYTES

    def on_ready() -> None:
        if not done.done() and take():
            done.set_result(None)

    try:
        loop.add_reader(descriptor, on_ready)
    except PermissionError:
        # A file, or /dev/null: there is nothing to wait for.
        while not take():
            pass
    else:
        try:
            await done
        finally:
            loop.remove_reader(descriptor)
    return read.decode(sys.stdin.encoding or "utf-8", "replace")


def read_secret(what: str, limit: int) -> bytes:
    """Read a secret from standard input: a line, or a JSON object in several, of `limit` bytes at most.

    On a terminal it prints what it waits for, and does not show what is typed.
    """
    if not sys.stdin.isatty():
        return _line_or_object(limit)
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    silent = [*before]
    silent[3] &= ~termios.ECHO
    try:
        # Within: Ctrl-C may come at any moment, and must not leave the terminal silent.
        termios.tcsetattr(terminal, termios.TCSAFLUSH, silent)
        sys.stderr.write(f"{what} (it is not shown; Enter ends it): ")
        sys.stderr.flush()
        return _line_or_object(limit)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        sys.stderr.write("\n")


def read_all(what: str, limit: int) -> bytes:
    """Read standard input to its end, `limit` bytes at most. On a terminal it prints what it waits for."""
    if not sys.stdin.isatty():
        return sys.stdin.buffer.read(limit)
    sys.stderr.write(f"{what} (Ctrl-D ends it):\n")
    sys.stderr.flush()
    read = bytearray(line := _next_line(limit))
    while line and len(read) < limit:
        read += (line := _next_line(limit - len(read)))
    return bytes(read)


def _line_or_object(limit: int) -> bytes:
    """A line; or, if it begins a JSON object, all lines until the object is complete."""
    read = line = _next_line(limit)
    while read.lstrip().startswith(b"{") and line and len(read) < limit and not _is_json(read):
        line = _next_line(limit - len(read))
        read += line
    return read


def _next_line(limit: int) -> bytes:
    """The next line of standard input, `limit` bytes at most; empty at its end.

    Python notices a Ctrl-C before it begins to read, or while it reads; between the two, it would notice it
    after the next line only. So on a terminal nothing is read before it is there.
    """
    while sys.stdin.isatty() and not select.select([sys.stdin], [], [], LOOK_SECONDS)[0]:
        pass
    return sys.stdin.buffer.readline(limit)


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
