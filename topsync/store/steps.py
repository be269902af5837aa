"""Steps as the tables keep them: what a version brings beside what subscribers have been told."""

from __future__ import annotations

import orjson

from schemas.steps import Step, T


def write(step: Step[T]) -> str:
    """The step as JSON."""
    return orjson.dumps(
        {"transitions": step.transitions, "status_from": step.status_from, "changed": step.changed}
    ).decode()


def read(text: str, kind: type[T]) -> Step[T]:
    """The step that was written, in words of this kind."""
    told = orjson.loads(text)
    return Step(tuple(map(kind, told["transitions"])), told["status_from"], tuple(told["changed"]))
