"""`python -m soak [kills|channel] [--minutes N]`: what takes longer than a test may; without a name, both.

*kills*: processes killed at every fail point, a group of enrichers divided anew every second for a minute,
Kafka and PostgreSQL away for a minute each.

*channel*: looks for bytes that the channel's code cannot take. The fuzzer is guided by coverage (libFuzzer,
by way of atheris) and ends with status 0 when it has found nothing. What it finds is written to
`.local/soak`, one file for each finding; the next run begins with the inputs that this one found interesting.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from soak import kills

ROOT: Final = Path(__file__).resolve().parent.parent
VECTORS: Final = ROOT / "tests" / "data" / "tmc-vectors.json"
FOUND: Final = ROOT / ".local" / "soak"

MAX_INPUT_BYTES: Final = 4096
MAX_MEMORY_MIB: Final = 400
"""Of the whole process. One input that takes more than a part of it is reported as a finding, too."""

MAX_SECONDS_AN_INPUT: Final = 5


def main() -> None:
    """Run one part or both; does not return."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("part", nargs="?", choices=("kills", "channel"))
    parser.add_argument("--minutes", type=float, default=10, help="of fuzzing")
    arguments = parser.parse_args()
    if arguments.part != "channel" and ((status := kills.run()) or arguments.part == "kills"):
        sys.exit(status)
    fuzz_channel(arguments.minutes)


def fuzz_channel(minutes: float) -> None:
    """Fuzz for that long; ends the process."""
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
