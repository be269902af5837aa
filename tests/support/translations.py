"""The Chinese pages have the same sections, commands, tables and links as the English pages.

After each heading of a Chinese page there is a comment with the English heading and a digest of the English
section that was translated: `<!-- en: Partitions 1f0c2a9b7d3e -->`. So we find each section that is missing,
has moved, or has changed since it was translated.

    python -m tests.support.translations            # says what is out of step
    python -m tests.support.translations --write    # notes that each section was looked at, and names them
"""

from __future__ import annotations

import hashlib
import os.path
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import PurePosixPath
from typing import Final, TypeVar

from tests.support import pages
from topsync.local import paths

TRANSLATED: Final[Mapping[str, str]] = {
    "README.md": "README.zh.md",
    "docs/deploy.md": "docs/zh/deploy.md",
    "docs/operations.md": "docs/zh/operations.md",
    "docs/runbooks/README.md": "docs/zh/runbooks.md",
    "docs/security.md": "docs/zh/security.md",
    "docs/subscribers.md": "docs/zh/subscribers.md",
}
"""English pages with a Chinese page: English to Chinese."""

DIGEST_CHARACTERS: Final = 12

WRITE: Final = "--write"

HEADING: Final = re.compile(r"^(#+) (.+)$")
FENCE: Final = re.compile(r"^ *```(\w*)$")
NAMED: Final = re.compile(rf"^<!-- en: (.+?)(?: ([0-9a-f]{{{DIGEST_CHARACTERS}}}))? -->$")
SPAN: Final = re.compile(r"`([^`]+)`")
LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
ITEM: Final = re.compile(r"^ *(?:[-*]|\d+\.) ")
COMMENT: Final = re.compile(r"(\s+# ).*$", re.MULTILINE)
"""The comment of a line of shell or settings: the only part of a block that may be translated."""

COMMENTED: Final = {"sh", "ini"}


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, with the text up to the next heading of any level."""

    page: str
    level: int
    title: str
    english: str
    """The English heading: the title itself, or the heading in the comment below it."""
    noted_digest: str | None
    """The noted digest of the English section that was translated."""
    prose: tuple[str, ...]
    """The lines outside of code blocks."""
    blocks: tuple[tuple[str, str], ...]
    """The code blocks: language and text."""

    @property
    def digest(self) -> str:
        """Digest of the section; line breaks do not matter."""
        words = " ".join([self.title, *self.prose]).split()
        text = "\0".join([" ".join(words), *(f"{language}\n{code}" for language, code in self.blocks)])
        return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]

    @property
    def code(self) -> list[tuple[str, str]]:
        """The code blocks as they must be on both pages: without the text of comments."""
        return [
            (language, COMMENT.sub(r"\1", text) if language in COMMENTED else text)
            for language, text in self.blocks
        ]

    @property
    def spans(self) -> set[str]:
        """The texts in backquotes outside of code blocks: commands, names, values."""
        return {" ".join(span.split()) for span in SPAN.findall("\n".join(self.prose))}

    @property
    def links(self) -> Counter[str]:
        """The targets of its links: a page with a heading's anchor, from the repository's root."""
        folder = PurePosixPath(self.page).parent
        return Counter(
            _from_root(self.page, folder, target) for target in LINK.findall("\n".join(self.prose))
        )

    @property
    def rows(self) -> list[int]:
        """How many rows each of its tables has."""
        runs = groupby(self.prose, key=lambda line: line.lstrip().startswith("|"))
        return [len(list(run)) for is_table, run in runs if is_table]

    @property
    def items(self) -> int:
        """How many items its lists have."""
        return sum(1 for line in self.prose if ITEM.match(line))


def _from_root(page: str, folder: PurePosixPath, target: str) -> str:
    if re.match(r"[a-z]+:", target):
        return target
    path, _, anchor = target.partition("#")
    found = os.path.normpath(folder / path) if path else page
    return f"{found}#{anchor}" if anchor else found


def sections(page: str) -> tuple[Section, ...]:
    """A page's sections, in order. Text before the first heading is ignored."""
    return tuple(_sections(page, pages.read(page).splitlines()))


def _sections(page: str, lines: list[str]) -> Iterator[Section]:
    started: list[tuple[str, str, list[str]]] = []
    fenced = False
    for line in lines:
        heading = None if fenced else HEADING.match(line)
        if heading is not None:
            started.append((heading[1], heading[2], []))
            continue
        if FENCE.match(line):
            fenced = not fenced
        if started:
            started[-1][2].append(line)
    for marks, title, body in started:
        named = NAMED.match(body[0]) if body else None
        prose, blocks = _apart(body[1:] if named else body)
        english, digest = (named[1], named[2]) if named else (title, None)
        yield Section(page, len(marks), title, english, digest, prose, blocks)


def _apart(body: list[str]) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    prose: list[str] = []
    blocks: list[tuple[str, str]] = []
    code: list[str] | None = None
    for line in body:
        fence = FENCE.match(line)
        if fence and code is None:
            code, language = [], fence[1]
        elif fence and code is not None:
            blocks.append((language, "\n".join(code)))
            code = None
        elif code is not None:
            code.append(line)
        else:
            prose.append(line)
    return tuple(prose), tuple(blocks)


def problems(english: str) -> list[str]:
    """Everything in which a page and its translation differ, by section."""
    chinese = TRANSLATED[english]
    here, there = sections(english), sections(chinese)
    found = [
        f"{chinese}: {problem}" for problem in _order([s.english for s in here], [s.english for s in there])
    ]
    by_name = {section.english: section for section in there}
    for section in here:
        if section.english in by_name:
            found += [
                f"{chinese}, {section.english!r}: {problem}"
                for problem in _differences(section, by_name[section.english])
            ]
    return found


def _order(here: list[str], there: list[str]) -> Iterator[str]:
    yield from (f"the section {name!r} is missing" for name in here if name not in there)
    yield from (f"no English section is called {name!r}" for name in there if name not in here)
    yield from (f"two sections are called {name!r}" for name, times in Counter(there).items() if times > 1)
    if sorted(here) == sorted(there):
        for name, other in zip(here, there, strict=True):
            if name != other:
                yield f"the section {other!r} stands where {name!r} is in English"
                return


def _differences(english: Section, chinese: Section) -> Iterator[str]:
    if english.level != chinese.level:
        yield f"a heading of level {chinese.level} and not {english.level}"
    for number, (block, other) in enumerate(zip_longest(english.code, chinese.code), start=1):
        if block != other:
            yield f"code block {number} differs"
    if english.rows != chinese.rows:
        yield f"tables have {chinese.rows} rows and not {english.rows}"
    if english.items != chinese.items:
        yield f"lists have {chinese.items} items and not {english.items}"
    yield from _beside(english.spans, chinese.spans, "")
    yield from _beside(Counter(map(translated, english.links.elements())), chinese.links, "links to ")
    if chinese.noted_digest != english.digest:
        yield "the English section has changed since it was translated"


T = TypeVar("T", set[str], Counter[str])


def _beside(english: T, chinese: T, what: str) -> Iterator[str]:
    if missing := english - chinese:
        yield f"lacks {what}{_quoted(missing)}"
    if added := chinese - english:
        yield f"has {what}{_quoted(added)} beside the English section"


def _quoted(texts: Iterable[str]) -> str:
    return ", ".join(f"`{text}`" for text in sorted(texts))


def translated(target: str) -> str:
    """The target of a link on the Chinese page: the Chinese page, if there is a translation.

    The links between a page and its translation point the other way.
    """
    path, _, anchor = target.partition("#")
    back = {chinese: english for english, chinese in TRANSLATED.items()}
    if path in back:
        return back[path]
    if path not in TRANSLATED:
        return target
    page = TRANSLATED[path]
    if not anchor:
        return page
    named = {pages.slug(section.english): pages.slug(section.title) for section in sections(page)}
    return f"{page}#{named.get(anchor, anchor)}"


def write(english: str) -> list[str]:
    """Note for each section of the Chinese page that it translates the current English section.

    Returns:
        The sections that had changed. Nothing is noted for a section without an English section.
    """
    digests = {section.english: section.digest for section in sections(english)}
    changed: list[str] = []
    lines = pages.read(TRANSLATED[english]).split("\n")
    for number, line in enumerate(lines):
        named = NAMED.match(line)
        if named and digests.get(named[1], named[2]) != named[2]:
            changed.append(named[1])
            lines[number] = f"<!-- en: {named[1]} {digests[named[1]]} -->"
    (paths.CHECKOUT / TRANSLATED[english]).write_text("\n".join(lines))
    return changed


def main(arguments: list[str]) -> int:
    """Print what is out of step, or note that all was looked at. Status 1: something is out of step."""
    if arguments not in ([], [WRITE]):
        sys.stderr.write(f"usage: python -m tests.support.translations [{WRITE}]\n")
        return 2
    if arguments:
        for english in TRANSLATED:
            for name in write(english):
                sys.stdout.write(f"{TRANSLATED[english]}, {name!r}: noted as looked at\n")
    found = [problem for english in TRANSLATED for problem in problems(english)]
    sys.stdout.writelines(f"{problem}\n" for problem in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
