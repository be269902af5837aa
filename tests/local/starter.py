"""A program that starts both servers and a child that ignores SIGTERM, then waits to be ended.

`test_ends.py` runs it and ends it in ways that would end a test process too. It prints `ready` when all
of them run.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.support.eventually import eventually
from tests.support.servers import embedded_only
from topsync.local.processes import ProcessGroup
from topsync.local.servers import local_servers

IGNORES_SIGTERM = ["sh", "-c", "trap '' TERM; echo deaf; exec sleep 600"]


async def main() -> None:
    """Start everything, print `ready`, and wait for ever."""
    async with (
        ProcessGroup(Path(sys.argv[1]), grace_seconds=3) as group,
        local_servers(group, environment=embedded_only()),
    ):
        deaf = await group.start("deaf", IGNORES_SIGTERM)
        await eventually(lambda: "deaf" in deaf.log_tail())
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
