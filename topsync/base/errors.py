"""The base of failures that an operator can do something about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

E = TypeVar("E", bound=Exception)

MOST_TOLD = 3
"""Different errors of a group that are written out."""


class OperatorError(Exception):
    """A failure whose text is one line for the operator: what is wrong, and what to do."""


class UnreachableError(OperatorError):
    """A server is away, or refuses us."""


@contextmanager
def reaching(server: str, errors: tuple[type[BaseException], ...]) -> Iterator[None]:
    """Where one of these errors leaves the context, say in one line which server it is about.

    Raises:
        UnreachableError: in place of any of `errors`.
    """
    try:
        yield
    except errors as error:
        # The lines below the first are details, and may quote what is stored.
        told = str(error).partition("\n")[0] or type(error).__name__
        raise UnreachableError(f"{server} does not answer, or refuses: {told}") from error


def first_of(group: BaseExceptionGroup[E]) -> E:
    """One of the errors in a group of them: the first is enough to say what to do."""
    for error in group.exceptions:
        return first_of(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group of them, however nested, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def flat(error: BaseException) -> str:
    """An error in one line for a log; of a group, each error in it that says something of its own.

    Only the first line of each: those below it are details, and may quote what is stored.
    """
    told = list(dict.fromkeys(map(_in_a_line, leaves(error))))
    more = [f"and {len(told) - MOST_TOLD} others"] if len(told) > MOST_TOLD else []
    return "; ".join(told[:MOST_TOLD] + more)


def _in_a_line(error: BaseException) -> str:
    text, _, _ = str(error).partition("\n")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
