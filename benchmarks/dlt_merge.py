"""dlt loads export files by merge, in an environment of its own: what a user would take for a table alone.

As a script (`python -I dlt_merge.py FILE ...`, by the Python of that environment) it loads the files into the
database that DATABASE_URL names, and prints the seconds and the number of rows.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from topsync.local.system import System

ROOT: Final = Path(__file__).resolve().parent.parent
CONSTRAINTS: Final = ROOT / "constraints-dlt.txt"
ENVIRONMENT: Final = ROOT / ".local" / "dlt"
STAMP: Final = "installed"
INSTALL_SECONDS: Final = 900.0
LOAD_SECONDS: Final = 7200.0

DATASET: Final = "dlt_bulk"
TABLE: Final = "orders"
ROWS_AT_ONCE: Final = 1000


class NotInstallableError(Exception):
    """dlt cannot be installed here; the text says why."""


async def install() -> None:
    """Make the environment, if it is not there.

    Raises:
        NotInstallableError: see there.
    """
    stamp, digest = ENVIRONMENT / STAMP, hashlib.sha256(CONSTRAINTS.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    await _call(sys.executable, "-m", "venv", str(ENVIRONMENT))
    pip = (str(_python()), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet")
    await _call(*pip, "--no-deps", "--require-hashes", "--requirement", str(CONSTRAINTS))
    stamp.write_text(digest)


def version() -> str:
    """The pinned version."""
    lines = CONSTRAINTS.read_text().splitlines()
    return next(line for line in lines if line.startswith("dlt==")).removeprefix("dlt==").split()[0]


async def load(system: System, files: Sequence[Path], orders: int) -> float:
    """Load the files; returns how long it took, in seconds, from the end of its import.

    Raises:
        RuntimeError: it failed, or its table has another number of orders.
    """
    folder = system.group.folder / "dlt"
    folder.mkdir()
    process = await asyncio.create_subprocess_exec(
        *(str(_python()), "-I", __file__, *map(str, files)),
        stdout=asyncio.subprocess.PIPE,
        cwd=folder,
        env={
            "DATABASE_URL": system.environment["TOPSYNC_DATABASE_URL"],
            "DLT_DATA_DIR": str(folder),
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
        },
    )
    try:
        async with asyncio.timeout(LOAD_SECONDS):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise RuntimeError(f"dlt ended with status {process.returncode}")
    found = json.loads(output.splitlines()[-1])
    if found["rows"] != orders:
        raise RuntimeError(f"dlt's table has {found['rows']} orders, not {orders}")
    return float(found["seconds"])


def _python() -> Path:
    return ENVIRONMENT / "bin" / "python"


async def _call(*argv: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(INSTALL_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        raise NotInstallableError(f"not done within {INSTALL_SECONDS:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        lines = output.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise NotInstallableError(lines[-1])


def _rows(files: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """The columns of topsync's table, with the whole trade as JSON."""
    import orjson

    rows: list[dict[str, Any]] = []
    for path in files:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.is_dir():
                    continue
                with archive.open(entry) as lines:
                    for line in lines:
                        trade = orjson.loads(line)["trade_fullinfo_get_response"]["trade"]
                        rows.append(
                            {
                                "tid": trade["tid"],
                                "seller_nick": trade["seller_nick"],
                                "created": trade["created"],
                                "modified": trade["modified"],
                                "status": trade["status"],
                                "trade": trade,
                            }
                        )
                        if len(rows) == ROWS_AT_ONCE:
                            yield rows
                            rows = []
    yield rows


def main() -> None:
    """Load the files that the command line names."""
    import dlt

    began = time.perf_counter()
    orders = dlt.resource(
        _rows(sys.argv[1:]),
        name=TABLE,
        write_disposition="merge",
        primary_key="tid",
        max_table_nesting=0,
        columns={"trade": {"data_type": "json"}},
    )
    destination = dlt.destinations.postgres(os.environ["DATABASE_URL"])
    pipeline = dlt.pipeline("bulk", destination=destination, dataset_name=DATASET)
    pipeline.run(orders)
    seconds = time.perf_counter() - began
    with pipeline.sql_client() as client:
        ((rows,),) = client.execute_sql(f"select count(*) from {TABLE}")
    print(json.dumps({"seconds": seconds, "rows": rows}))


if __name__ == "__main__":
    main()
