"""The base class of failures that an operator can do something about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

E = TypeVar("E", bound=Exception)

MAX_WRITTEN_OUT = 3
"""How many different errors of a group are written out."""


class OperatorError(Exception):
    """A failure whose text is one line for the operator: what is wrong, and what to do."""


class UnreachableError(OperatorError):
    """A server is away, or refuses us."""


@contextmanager
def reaching(server: str, errors: tuple[type[BaseException], ...]) -> Iterator[None]:
    """Turn these errors, where they leave the context, into one line that names the server.

    Raises:
        UnreachableError: in place of any of `errors`.
    """
    try:
        yield
    except errors as error:
        # The lines below the first are details, and may quote what is stored.
        first_line = str(error).partition("\n")[0] or type(error).__name__
        raise UnreachableError(f"{server} does not answer, or refuses: {first_line}") from error


def first_of(group: BaseExceptionGroup[E]) -> E:
    """The first error in a group: it is enough to say what to do."""
    for error in group.exceptions:
        return first_of(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The single errors in a group, however deeply nested; of an error that is no group, the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def flat(error: BaseException) -> str:
    """An error in one line for a log; of a group, the errors in it that differ.

    Only the first line of each: those below it are details, and may quote what is stored.
    """
    texts = list(dict.fromkeys(map(_in_a_line, leaves(error))))
    more = [f"and {len(texts) - MAX_WRITTEN_OUT} others"] if len(texts) > MAX_WRITTEN_OUT else []
    return "; ".join(texts[:MAX_WRITTEN_OUT] + more)


def _in_a_line(error: BaseException) -> str:
    text, _, _ = str(error).partition("\n")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
