"""The Chinese pages agree with the English pages: sections, commands, tables, links, and content.

How to find a difference, and to note that a section was checked: docs/how-to/translate-a-page.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import pages, translations
from topsync.local import paths

ENGLISH = "docs/operations.md"
CHINESE = translations.TRANSLATED[ENGLISH]


@pytest.mark.parametrize("english", translations.TRANSLATED)
def test_a_chinese_page_agrees_with_its_english_page(english: str) -> None:
    assert translations.problems(english) == []


@pytest.mark.parametrize("english", translations.TRANSLATED)
def test_a_reader_of_a_chinese_page_types_the_same_commands(english: str) -> None:
    def typed(page: str) -> list[str]:
        return [command.text for command in pages.commands(page)]

    assert typed(translations.TRANSLATED[english]) == typed(english)


@pytest.mark.parametrize("english", translations.TRANSLATED)
def test_a_page_and_its_translation_name_each_other(english: str) -> None:
    chinese = translations.TRANSLATED[english]
    for page, other in ((english, chinese), (chinese, english)):
        assert other in translations.sections(page)[0].links


def test_every_chinese_page_is_the_translation_of_some_page() -> None:
    chinese = {page for page in pages.all_pages() if page.endswith(".zh.md") or page.startswith("docs/zh/")}
    assert chinese == set(translations.TRANSLATED.values())


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of only the pages and their translations, which a test may change."""
    for page in (*translations.TRANSLATED, *translations.TRANSLATED.values()):
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text(pages.read(page))
    monkeypatch.setattr(paths, "CHECKOUT", tmp_path)
    return tmp_path


def change(page: Path, how: Callable[[str], str]) -> None:
    before = page.read_text()
    after = how(before)
    assert after != before
    page.write_text(after)


def without_section(text: str, name: str) -> str:
    return re.sub(rf"^##[^\n]+\n<!-- en: {name}.*?(?=^## )", "", text, flags=re.MULTILINE | re.DOTALL)


def moved_to_the_end(text: str, name: str) -> str:
    bare = without_section(text, name)
    section = next(piece for piece in text.split("\n## ") if f"<!-- en: {name}" in piece)
    return f"{bare}\n## {section}"


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        (lambda text: without_section(text, "Dead letters"), "the section 'Dead letters' is missing"),
        (
            lambda text: moved_to_the_end(text, "Parked orders"),
            "the section 'Dead letters' stands where 'Parked orders' is in English",
        ),
        (lambda text: text.replace("en: Partitions", "en: Shards"), "no English section is called 'Shards'"),
        (lambda text: text.replace("## 死信", "### 死信"), "'Dead letters': a heading of level 3 and not 2"),
        (lambda text: text.replace("republish --dry-run ", "republish --dry "), "code block 1 differs"),
        (lambda text: re.sub(r" +# 全部", "", text), "code block 1 differs"),
        (lambda text: text.replace("enrich --drain`", "enrich`"), "lacks `topsync enrich --drain`"),
        (lambda text: re.sub(r"^\| `refused` .*\n", "", text, flags=re.MULTILINE), "tables have"),
        (lambda text: re.sub(r"^- .*\n", "", text, count=1, flags=re.MULTILINE), "items and not"),
        (lambda text: text.replace("sellers.md#commands", "sellers.md"), "lacks links to"),
        (lambda text: text.replace("](#等待合并的消息)", "](#分区)"), "docs/zh/operations.md#等待合并的消息"),
    ],
)
def test_each_difference_is_named_with_its_section(
    checkout: Path, how: Callable[[str], str], problem: str
) -> None:
    change(checkout / CHINESE, how)
    assert problem in "\n".join(translations.problems(ENGLISH))


def test_a_changed_english_section_must_be_looked_at_and_noted(checkout: Path) -> None:
    change(checkout / ENGLISH, lambda text: text.replace("Kafka never removes", "Kafka does not remove"))
    changed = f"{CHINESE}, 'Partitions': the English section has changed since it was translated"
    assert translations.problems(ENGLISH) == [changed]
    assert translations.write(ENGLISH) == ["Partitions"]
    assert translations.problems(ENGLISH) == []
    assert translations.write(ENGLISH) == []


def test_line_breaks_in_a_section_do_not_matter(checkout: Path) -> None:
    change(checkout / ENGLISH, lambda text: text.replace("Kafka never removes", "Kafka never\nremoves"))
    assert translations.problems(ENGLISH) == []


def test_noting_a_section_as_checked_hides_no_other_problem_of_it(checkout: Path) -> None:
    change(
        checkout / ENGLISH,
        lambda text: text.replace("## Partitions\n", "## Partitions\n\nRun `topsync status`.\n"),
    )
    translations.write(ENGLISH)
    assert translations.problems(ENGLISH) == [f"{CHINESE}, 'Partitions': lacks `topsync status`"]
