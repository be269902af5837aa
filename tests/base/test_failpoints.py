"""Fail points do nothing unless the environment arms a point, and then exactly what it asks for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.support import measuring
from topsync.base.failpoints import POINTS
from topsync.local import arming
from topsync.local.arming import POINT_VARIABLE, REACHED_VARIABLE, FailPointError

REACHING = """
import os
from topsync.base import failpoints
from topsync.local import arming
arming.arm(os.environ)
for number in (1, 2, 3):
    failpoints.reach("enricher.taken")
    failpoints.reach("enricher.stored")
    print(number)
"""


def reaching(environment: dict[str, str]) -> tuple[int, str]:
    """Status and output of a process that reaches two points, three times each."""
    ended = subprocess.run(
        [sys.executable, "-u", "-c", REACHING],
        capture_output=True,
        check=False,
        timeout=60,
        env={**environment, **measuring.VARIABLES},
    )
    return ended.returncode, ended.stdout.decode()


def test_nothing_is_armed_by_default() -> None:
    assert reaching({}) == (0, "1\n2\n3\n")


@pytest.mark.parametrize(("asked", "output"), [("enricher.stored", ""), ("enricher.stored:3", "1\n2\n")])
def test_an_armed_point_kills_the_process_there_and_says_so(tmp_path: Path, asked: str, output: str) -> None:
    reached = tmp_path / "reached"
    environment = {POINT_VARIABLE: asked, REACHED_VARIABLE: str(reached)}
    assert reaching(environment) == (-SIGKILL, output)
    assert reached.read_text() == "enricher.stored"


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({POINT_VARIABLE: POINTS[0]}, id="no file"),
        pytest.param({REACHED_VARIABLE: "x"}, id="no point"),
        pytest.param({POINT_VARIABLE: "enricher.nowhere", REACHED_VARIABLE: "x"}, id="no such point"),
        pytest.param({POINT_VARIABLE: f"{POINTS[0]}:often", REACHED_VARIABLE: "x"}, id="no number"),
    ],
)
def test_a_fail_point_with_half_of_its_settings_stops_the_process(
    environment: dict[str, str],
) -> None:
    with pytest.raises(FailPointError, match="TOPSYNC_FAIL_POINT"):
        arming.arm(environment)
