"""Which settings a command reads, found in the code: a table here would soon be wrong."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

from topsync.base import service, settings, tracing
from topsync.operate import installation_commands
from topsync.operate.cli import bootstraps, installation, services
from topsync.wiring import bootstrap, enrich, opening, parts, platforms, push, reconcile, taobao, witness

COMMANDS: tuple[ModuleType, ...] = (services, bootstraps, installation)
"""The groups whose commands a cluster runs."""


PROCESSES: tuple[ModuleType, ...] = (push, enrich, reconcile, bootstrap, witness)
SHARED: tuple[ModuleType, ...] = (parts, opening, platforms, taobao, service, tracing)

OF_THE_PLATFORM = ("platform", "opened")
"""What holds the chosen platform is called so everywhere: its methods are those of Taobao's module."""


def _name(module: ModuleType) -> str:
    return module.__name__.rsplit(".", 1)[1]


MODULES: dict[str, ModuleType] = {
    _name(module): module for module in (*COMMANDS, installation_commands, *PROCESSES, *SHARED)
} | dict.fromkeys(OF_THE_PLATFORM, taobao)


def settings_of(command: str) -> list[type[Any]]:
    """Every class of settings that `topsync <command>` loads, directly or in what it calls."""
    seen: set[tuple[str, str]] = set()
    found: dict[str, None] = {}
    body = command.replace(" ", "_")
    todo = [(group, body) for group in map(_name, COMMANDS) if body in _functions(group)]
    assert todo, command
    while todo:
        place = todo.pop()
        if place in seen:
            continue
        seen.add(place)
        module, function = place
        for kind, name in _mentions(module, _functions(module)[function]):
            if kind == "settings":
                found[name] = None
            elif name in _functions(kind):
                todo.append((kind, name))
    return [getattr(settings, name) for name in found]


@cache
def _functions(module: str) -> dict[str, ast.AST]:
    tree = ast.parse(inspect.getsource(MODULES[module]))
    return {
        node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def _mentions(module: str, function: ast.AST) -> Iterator[tuple[str, str]]:
    """(module, function) for each function that is named, ("settings", class) for each loaded class."""
    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name("settings"), attr="load"), args=[ast.Name(name)]):
                yield "settings", name
            case ast.Attribute(value=ast.Name(other), attr=name) if other in MODULES:
                yield other, name
            case ast.Name(name):
                yield module, name
