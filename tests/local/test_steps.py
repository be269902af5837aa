"""Steps of the set-up show their progress on a terminal, and a single line elsewhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from topsync.local import steps

STEP = """
from topsync.local.steps import step
with step("fetching", lambda: 0.5):
    {body}
"""
WHOLE_BAR = "#" * steps.BAR_CHARACTERS


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (None, "setup: fetching ... 7 s"),
        (1.0, f"setup: fetching [{WHOLE_BAR}] 7 s"),
        (1.7, f"setup: fetching [{WHOLE_BAR}] 7 s"),
        (0.25, "setup: fetching [######..................] 7 s"),
    ],
)
def test_a_step_under_way_shows_its_share_and_its_time(share: float | None, shown: str) -> None:
    assert steps.line("fetching", 7.2, share) == shown


def on_a_terminal(body: str) -> tuple[int, str]:
    """The exit status, and what the program drew."""
    ours, its = pty.openpty()
    with os.fdopen(ours, "rb") as screen:
        process = subprocess.Popen(
            [sys.executable, "-c", STEP.format(body=body)], stdout=its, stderr=subprocess.DEVNULL
        )
        os.close(its)
        drawn = b""
        try:
            while piece := screen.read1(4096):
                drawn += piece
        except OSError:  # Linux's sign that no process writes there any more
            pass
        return process.wait(60), drawn.decode()


def test_on_a_terminal_the_line_moves_and_ends_with_the_time() -> None:
    status, drawn = on_a_terminal("pass")
    assert status == 0
    first, *_, last = drawn.split(steps.LINE_AGAIN)[1:]
    assert first == "setup: fetching [############............] 0 s"
    assert last.startswith("setup: fetching ... 0.")
    assert last.endswith(" s\r\n")


def test_a_step_that_fails_stops_drawing_and_claims_no_time() -> None:
    status, drawn = on_a_terminal("raise ValueError")
    assert status == 1
    assert drawn.split(steps.LINE_AGAIN)[-1] == "setup: fetching ... "


def test_without_a_terminal_a_step_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STEP.format(body="pass")],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith("setup: fetching ... 0.")
    assert done.stdout.count("setup") == 1
