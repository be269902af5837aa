"""What a condition looks at: its source, its place and its values, for the text of a failure."""

from __future__ import annotations

import ast
import asyncio
import functools
import inspect
import linecache
import reprlib
import sys
import types
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LOOK_SECONDS = 2.0
"""The last look needs a bound too: often a server that never answers is the reason of the failure."""

MAX_VALUES = 12
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 200
_repr.maxlist = _repr.maxdict = _repr.maxtuple = _repr.maxset = 8

Node = ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef


async def describe(condition: Callable[[], object]) -> str:
    """The condition and what it sees now, in some lines. It is asked once more; errors become text."""
    lines = [f"  condition: {_source(condition)}", *await _look(condition)]
    return "\n".join(lines)


def _function(condition: Callable[..., object]) -> types.FunctionType | None:
    """The Python function behind a partial, a bound method or a callable object."""
    while isinstance(condition, functools.partial):
        condition = condition.func
    found = inspect.unwrap(getattr(condition, "__func__", condition))
    if not isinstance(found, types.FunctionType):
        found = getattr(type(condition).__call__, "__func__", type(condition).__call__)
    return found if isinstance(found, types.FunctionType) else None


def _source(condition: Callable[..., object]) -> str:
    function = _function(condition)
    if function is None:
        return repr(condition)
    code = function.__code__
    place = f"{Path(code.co_filename).name}:{code.co_firstlineno}"
    node = _node(code)
    if isinstance(node, ast.Lambda):
        return f"{ast.unparse(node.body)}  ({place})"
    return f"{function.__qualname__}{_arguments(condition)}  ({place})"


def _arguments(condition: Callable[..., object]) -> str:
    if not isinstance(condition, functools.partial):
        return "()"
    named = [f"{name}={_repr.repr(value)}" for name, value in condition.keywords.items()]
    return f"({', '.join([*map(_repr.repr, condition.args), *named])})"


def _node(code: types.CodeType) -> Node | None:
    """The function's syntax tree; among several lambdas in a line, that with the same instructions."""
    lines = linecache.getlines(code.co_filename)
    if not lines:
        return None
    spans = {(line, column) for line, _, column, _ in code.co_positions() if line and column}
    found = [
        node
        for node in ast.walk(ast.parse("".join(lines)))
        if isinstance(node, Node) and _first_line(node) == code.co_firstlineno
    ]
    return max(found, key=lambda node: len(spans & _positions(node)), default=None)


def _first_line(node: Node) -> int:
    decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _positions(node: Node) -> set[tuple[int, int]]:
    bodies = [node.body] if isinstance(node, ast.Lambda) else node.body
    return {
        (part.lineno, part.col_offset)
        for body in bodies
        for part in ast.walk(body)
        if isinstance(part, ast.expr)
    }


async def _look(condition: Callable[[], object]) -> list[str]:
    """Ask once more, and note the function's variables when it answered."""
    seen: dict[str, object] = {}
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            with _noting_variables(_function(condition), seen):
                answer = condition()
            if inspect.iscoroutine(answer):
                with _noting_variables_of(answer.cr_code, seen):
                    answer = await answer
            elif isinstance(answer, Awaitable):
                answer = await answer
    except Exception as error:  # noqa: BLE001 -- it goes into the text of the failure
        return [*_values(seen), f"  asked once more, it raised {error!r}"]
    return [*_operands(condition), *_values(seen), f"  asked once more: {_repr.repr(answer)}"]


def _values(seen: dict[str, object]) -> list[str]:
    return [f"  {name} = {_repr.repr(value)}" for name, value in list(seen.items())[:MAX_VALUES]]


def _operands(condition: Callable[..., object]) -> list[str]:
    """Both sides of each comparison in a lambda, and its calls, with their current values."""
    function = _function(condition)
    node = _node(function.__code__) if function else None
    if function is None or not isinstance(node, ast.Lambda):
        return []
    names = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    shown: dict[str, str] = {}
    for part in ast.walk(node.body):
        for operand in [part.left, *part.comparators] if isinstance(part, ast.Compare) else []:
            if isinstance(operand, ast.Constant | ast.Await):
                continue
            code = compile(ast.fix_missing_locations(ast.Expression(operand)), "<condition>", "eval")
            try:
                value = eval(code, names)
            except Exception as error:  # noqa: BLE001 -- it goes into the text of the failure
                value = error
            shown[ast.unparse(operand)] = _repr.repr(value)
    return [f"  {text} = {value}" for text, value in list(shown.items())[:MAX_VALUES]]


@contextmanager
def _noting_variables(function: types.FunctionType | None, seen: dict[str, object]) -> Iterator[None]:
    if function is None or function.__name__ == "<lambda>":
        yield
        return
    with _noting_variables_of(function.__code__, seen):
        yield


@contextmanager
def _noting_variables_of(code: types.CodeType, seen: dict[str, object]) -> Iterator[None]:
    """Keep this function's variables from the last time that it returned or waited."""

    def note(frame: types.FrameType, event: str, _: Any) -> None:
        if event == "return" and frame.f_code is code:
            seen.update(frame.f_locals)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)
