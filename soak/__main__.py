"""`python -m soak [kills|cluster|bulk|channel] [--minutes N] [--orders N]`: runs too long for a test.

Without a name, all of them.

*kills*: processes are killed at every fail point, a group of enrichers rebalances every second for a minute,
and Kafka and PostgreSQL are away for a minute each.

*cluster*: three push, three enrichers and two reconcilers under 300 messages a second, for two minutes. Each
is killed, drained and restarted. Prints the freshness, the longest gap and how long push was away; audits.

*bulk*: the bulk start of a seller with 400,000 orders, in slices, with 5,000 unreadable lines in one of them,
and while orders change. Says how long it took and how much memory its process had, verifies the certificate,
and audits.

*channel*: looks for bytes that the channel's code cannot handle. The fuzzer is guided by coverage (libFuzzer,
through atheris) and ends with status 0 when it has found nothing. It writes a file for each finding to
`.local/soak`; the next run begins with the inputs that this run found interesting.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from soak import bulk, cluster, kills

ROOT: Final = Path(__file__).resolve().parent.parent
VECTORS: Final = ROOT / "tests" / "data" / "tmc-vectors.json"
FOUND: Final = ROOT / ".local" / "soak"

FUZZING_MINUTES: Final = 10.0
MAX_INPUT_BYTES: Final = 4096
MAX_MEMORY_MIB: Final = 400
"""For the whole process. An input that takes a large part of it is a finding, too."""

MAX_SECONDS_AN_INPUT: Final = 5


def main() -> None:
    """Run a part or both; does not return."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("part", nargs="?", choices=("kills", "cluster", "bulk", "channel"))
    parser.add_argument(
        "--minutes",
        type=float,
        help=f"how many minutes the cluster is disturbed ({cluster.MINUTES:g}), or the channel fuzzed "
        f"({FUZZING_MINUTES:g})",
    )
    parser.add_argument("--orders", type=int, default=bulk.ORDERS, help="how many the large seller has")
    arguments = parser.parse_args()
    if arguments.part in (None, "kills") and ((status := kills.run()) or arguments.part):
        sys.exit(status)
    if arguments.part in (None, "cluster") and (
        (status := cluster.run(arguments.minutes or cluster.MINUTES)) or arguments.part
    ):
        sys.exit(status)
    if arguments.part in (None, "bulk") and ((status := bulk.run(arguments.orders)) or arguments.part):
        sys.exit(status)
    fuzz_channel(arguments.minutes or FUZZING_MINUTES)


def fuzz_channel(minutes: float) -> None:
    """Fuzz for so many minutes; ends the process."""
    corpus = FOUND / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for vector in json.loads(VECTORS.read_text("utf-8"))["vectors"]:
        (corpus / f"vector_{vector['name']}").write_bytes(bytes.fromhex(vector["hex"]))
    from soak import channel

    channel.fuzz(
        str(corpus),
        f"-max_total_time={round(minutes * 60)}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-rss_limit_mb={MAX_MEMORY_MIB}",
        f"-timeout={MAX_SECONDS_AN_INPUT}",
        f"-artifact_prefix={FOUND}/",
        "-print_final_stats=1",
    )


if __name__ == "__main__":
    main()
