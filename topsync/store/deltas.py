"""Steps as the tables keep them: what a version brings beside what was published before it."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from schemas.delta import UPDATED, Delta, T


def write(step: Delta[T]) -> str:
    """The step as JSON."""
    return text(step.words, step.status_from, step.changed)


def text(words: Sequence[str], status_from: str | None, changed: Sequence[str]) -> str:
    """The JSON of a step of these words, and of the fields that changed."""
    return orjson.dumps({"transitions": words, "status_from": status_from, "changed": changed}).decode()


def read(text: str, kind: type[T]) -> Delta[T]:
    """The step that was written, in words of this kind; words of a newer release stay as they are."""
    stored = orjson.loads(text)
    words: list[str] = stored["transitions"]
    known = kind.by_rank(words)
    beyond = tuple(word for word in words if word not in known)
    return Delta(known or kind.by_rank([UPDATED]), stored["status_from"], tuple(stored["changed"]), beyond)
