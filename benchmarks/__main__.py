"""`python -m benchmarks [NAME ...] [--write]`: runs benchmarks and prints their results."""

from __future__ import annotations

import argparse
import importlib
from typing import Final

import uvloop

from benchmarks import report
from benchmarks.report import Report

BENCHMARKS: Final = (
    "gateway",
    "http_transport",
    "push",
    "restart",
    "simulator",
    "freshness",
    "coalescing",
    "upsert",
)
"""Each is a module of this package with an asynchronous `run` that returns a report."""


def main() -> None:
    """Run the named benchmarks in turn, or all of them, on the same event loop as the services."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"some of {', '.join(BENCHMARKS)}; default: all"
    )
    parser.add_argument("--write", action="store_true", help="put the results into docs/benchmarks.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.names).difference(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    print(report.machine())
    for name in arguments.names or BENCHMARKS:
        found: Report = uvloop.run(importlib.import_module(f"benchmarks.{name}").run())
        report.show(found)
        if arguments.write:
            report.write(found)


if __name__ == "__main__":
    main()
