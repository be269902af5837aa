"""Text from outside is shown as text; a table fits the screen, and never breaks ids and dates."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.support.places import CASES
from topsync.base import terminal
from topsync.base.shown import shown, shown_json, shown_lines
from topsync.base.terminal import Column, Styled, Table

NICKS = (CASES / "nick_markup.txt").read_text("utf-8").splitlines()
ID, DATE = "2200000000001", "2026-11-20 10:00:00"
COMMAND = "run `topsync sellers authorise 2200000000001`, and then whatever comes after it in a long line"


@given(st.text())
def test_no_text_contains_anything_that_a_terminal_obeys(text: str) -> None:
    assert shown(text).isprintable()
    assert shown_lines(text).count("\n") == text.count("\n")
    assert shown_lines(text).replace("\n", "").isprintable()


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"], include_characters=" ")))
def test_a_plain_text_is_shown_as_it_is(text: str) -> None:
    assert shown(text) == shown_lines(text) == text


@pytest.mark.parametrize(
    ("foreign", "seen"),
    [
        ("\x1b]0;title\x07\x1b[2J", r"\x1b]0;title\x07\x1b[2J"),
        ("line one\nline two\r", r"line one\nline two\r"),
        ("evil\u202etxt\u200b", r"evil\u202etxt\u200b"),
        ("\x9b2J\x00\udcff", r"\x9b2J\x00\udcff"),
        ("[tmall]店 shop [/b] x", "[tmall]店 shop [/b] x"),
    ],
)
def test_special_characters_are_written_out(foreign: str, seen: str) -> None:
    assert shown(foreign) == seen


def test_a_very_long_text_is_cut_and_says_so() -> None:
    assert shown("x" * 50, limit=10) == "xxxxxxx..."
    assert shown("x" * 10, limit=10) == "x" * 10


@given(st.text(), st.booleans())
def test_json_means_the_same_and_holds_nothing_that_a_terminal_obeys(text: str, ascii_only: bool) -> None:
    written = shown_json(json.dumps({"nick": text}, ensure_ascii=False), ascii_only=ascii_only)
    assert json.loads(written) == {"nick": text}
    assert written.isprintable()
    assert written.isascii() or not ascii_only


def printed(capsys: pytest.CaptureFixture[str], table: Table) -> str:
    capsys.readouterr()
    terminal.show(table)
    return capsys.readouterr().out


def of_sellers(nick: str) -> Table:
    table = Table(
        (
            Column("id", whole=True),
            Column("nick"),
            Column("complete until", whole=True),
            Column("orders", whole=True, rank=1),
            Column("and what else is to be said", rank=2),
        ),
        title="Sellers",
    )
    table.add(ID, nick, DATE, Styled("1000000", "bold red"), "words " * 30)
    return table


@pytest.mark.parametrize("nick", [*NICKS, "line one\nline two", "\x1b[31mred", "店" * 100, "x" * 100])
@pytest.mark.parametrize("columns", [30, 60, 80, 120, 300])
def test_ids_and_dates_never_break_whatever_the_nick_and_the_screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], nick: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    output = printed(capsys, of_sellers(nick))
    (row,) = [line for line in output.split("\n") if ID in line]
    assert DATE in row
    assert output.replace("\n", "").isprintable()
    assert columns < 60 or max(map(cell_len, output.split("\n"))) <= columns


@pytest.mark.parametrize("nick", NICKS)
def test_a_nick_of_markup_is_shown_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], nick: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert f" {shown(nick)} " in printed(capsys, of_sellers(nick))


def test_the_least_important_columns_go_first_and_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    output = printed(capsys, of_sellers("demo"))
    assert "1000000" in output
    assert output.endswith("(no room for: and what else is to be said)\n")
    monkeypatch.setenv("COLUMNS", "45")
    output = printed(capsys, of_sellers("demo"))
    assert "1000000" not in output
    assert output.endswith("(no room for: orders, and what else is to be said)\n")
    monkeypatch.setenv("COLUMNS", "120")
    assert "no room" not in printed(capsys, of_sellers("demo"))


def test_a_sentence_is_one_line_however_narrow_the_screen_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    terminal.say(COMMAND, "a\nb [bold]c[/]")
    assert capsys.readouterr().out == f"{COMMAND}\na\\nb [bold]c[/]\n"
    terminal.complain("topsync: x\ny")
    assert capsys.readouterr().err == "topsync: x\\ny\n"
