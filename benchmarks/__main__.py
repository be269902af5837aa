"""`python -m benchmarks [NAME ...] [--orders N ...] [--write]`: runs benchmarks and prints their results.

`python -m benchmarks profile ...` shows where a process spends its time: `benchmarks/profile.py`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Final

import uvloop

from benchmarks import profile, report
from benchmarks.report import Report

BENCHMARKS: Final = (
    "gateway",
    "http_transport",
    "push",
    "restart",
    "simulator",
    "freshness",
    "pipeline",
    "traces",
    "coalescing",
    "sweeps",
    "upsert",
    "bulk",
    "audit",
    "restored",
    "slow_day",
    "drain",
    "many_sellers",
    "held",
    "sizes",
    "footprint",
)
"""Each is a module of this package with an asynchronous `run` that returns a report."""

SIZED: Final = ("bulk", "audit", "restored")
"""Their `run` takes numbers of orders."""


def main() -> None:
    """Run the named benchmarks in turn, or all of them, on the same event loop as the services."""
    if sys.argv[1:2] == ["profile"]:
        profile.main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"some of {', '.join(BENCHMARKS)}; default: all"
    )
    parser.add_argument("--write", action="store_true", help="put the results into docs/benchmarks.md")
    parser.add_argument(
        "--orders", type=int, nargs="+", metavar="N", help=f"other sizes than usual, for {', '.join(SIZED)}"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.names).difference(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    if arguments.orders and not (arguments.names and set(arguments.names) <= set(SIZED)):
        parser.error(f"--orders is for {', '.join(SIZED)}")
    sizes = [arguments.orders] if arguments.orders else []
    print(report.machine())
    for name in arguments.names or BENCHMARKS:
        found: Report = uvloop.run(importlib.import_module(f"benchmarks.{name}").run(*sizes))
        report.show(found)
        if arguments.write:
            report.write(found)


if __name__ == "__main__":
    main()
