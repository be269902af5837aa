"""How a service ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
from topsync.base import service
from topsync.base.errors import OperatorError

async def body(lifetime):
    {body}

service.run("push", body)
"""


@pytest.mark.parametrize(
    ("body", "status"),
    [("return", 0), ("raise OperatorError('do this')", 1), ("raise ValueError('a defect')", 1)],
    ids=["done", "for an operator", "a defect"],
)
def test_a_service_reports_its_end_by_its_status_and_shows_a_trace_only_of_a_defect(
    body: str, status: int
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(body=body)], capture_output=True, timeout=60, check=False
    )
    written = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == status, written
    assert ("a defect" in written) == ("a defect" in body), written
    assert ("topsync push: do this\n" in written) == ("do this" in body), written
    assert ("Traceback" in written or '"exception"' in written) == ("a defect" in body), written
