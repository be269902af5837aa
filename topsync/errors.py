"""The base of failures that an operator can do something about."""

from __future__ import annotations

from typing import TypeVar

E = TypeVar("E", bound=Exception)


class OperatorError(Exception):
    """A failure whose text is one line for the operator: what is wrong, and what to do."""


def first_of(group: BaseExceptionGroup[E]) -> E:
    """One of the errors in a group of them: the first is enough to say what to do."""
    for error in group.exceptions:
        return first_of(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")
