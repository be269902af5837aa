"""The glossary has each word once, and the places that it names exist."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from tests.support import pages
from topsync.base import metrics
from topsync.local import paths

PAGE: Final = pages.read("docs/glossary.md")

WORDS: Final = re.compile(r"^\| (?!word \||---)([^|]+) \|", re.MULTILINE)
"""The first cell of each row."""

TABLES: Final = re.compile(r"(?:table|view) (`[\w.]+`)|tables (`\w+`(?:, `\w+`)*)")
CREATED: Final = re.compile(r"^(?:create (?:table|view)|alter table \w+ rename to) ([\w.]+)", re.MULTILINE)


def test_each_word_stands_for_one_thing() -> None:
    words = Counter(word for cell in WORDS.findall(PAGE) for word in cell.split(", "))
    assert len(words) > 100
    assert [word for word, times in words.items() if times > 1] == []


def test_every_metric_and_setting_that_the_glossary_names_exists() -> None:
    settings = set(re.findall(r"`(TOPSYNC_\w+)`", pages.read("docs/reference/settings.md")))
    assert set(re.findall(r"`(topsync_\w+)`", PAGE)) - set(metrics.entered()) == set()
    assert set(re.findall(r"`(TOPSYNC_\w+)`", PAGE)) - settings == set()


def test_every_table_that_the_glossary_names_exists() -> None:
    migrations = (paths.CHECKOUT / "topsync/store/migrations").glob("*.sql")
    created = {name for file in migrations for name in CREATED.findall(file.read_text())}
    named = {name for listed in TABLES.finditer(PAGE) for name in re.findall(r"[\w.]+(?=`)", listed[0])}
    assert len(named) > 20
    assert named - created == set()
