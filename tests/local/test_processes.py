from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.local.starter import IGNORES_SIGTERM
from tests.support.eventually import eventually
from topsync.local import run_folders
from topsync.local.processes import ManagedProcess, ProcessFailedError, ProcessGroup

SAYS_GOODBYE = """
import pathlib, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(pathlib.Path(sys.argv[2]).open("a").write(sys.argv[1]) * 0))
print("up", flush=True)
signal.pause()
"""


async def test_children_are_stopped_in_the_reverse_order_of_starting(tmp_path: Path) -> None:
    order = tmp_path / "order"
    async with ProcessGroup(tmp_path / "run") as group:
        for name in ("a", "b", "c"):
            await started(group, name, [sys.executable, "-c", SAYS_GOODBYE, name, str(order)])

    assert order.read_text() == "cba"


async def test_stop_kills_a_child_that_ignores_sigterm_after_the_grace(tmp_path: Path) -> None:
    async with ProcessGroup(tmp_path) as group:
        child = await started(group, "deaf", IGNORES_SIGTERM)

        assert await child.stop(grace_seconds=0.1) == -signal.SIGKILL


async def test_a_failed_run_shows_the_end_of_its_log(tmp_path: Path) -> None:
    async with ProcessGroup(tmp_path) as group:
        with pytest.raises(ProcessFailedError, match=r"tool ended with status 3(.|\n)*no such thing"):
            await group.run("tool", ["sh", "-c", "echo no such thing; exit 3"], timeout_seconds=10)


async def test_a_run_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    async with ProcessGroup(tmp_path) as group:
        with pytest.raises(ProcessFailedError, match="did not end within 0 s"):
            await group.run("tool", IGNORES_SIGTERM, timeout_seconds=0.1)


async def test_a_group_without_its_guardian_starts_nothing(tmp_path: Path) -> None:
    group = ProcessGroup(tmp_path)
    async with group:
        assert group._guardian is not None
        group._guardian.kill()
        group._guardian.wait()

        with pytest.raises(ProcessFailedError, match="no running guardian"):
            await group.start("late", ["true"])


async def test_one_folder_serves_one_group_at_a_time_and_then_the_next(tmp_path: Path) -> None:
    async with ProcessGroup(tmp_path):
        with pytest.raises(run_folders.FolderInUseError):
            async with ProcessGroup(tmp_path):
                pass

    async with ProcessGroup(tmp_path):
        assert run_folders.is_in_use(tmp_path)
    assert not run_folders.is_in_use(tmp_path)


async def test_a_new_run_removes_ended_runs_and_leaves_running_runs(tmp_path: Path) -> None:
    ended, running = run_folders.create(tmp_path), run_folders.create(tmp_path)
    async with ProcessGroup(ended):
        pass
    outside = run_folders.outside(ended / "elsewhere")
    somebody_elses = tmp_path / "somebody_elses"
    somebody_elses.mkdir()
    (ended / "not ours").symlink_to(somebody_elses)

    async with ProcessGroup(running):
        run_folders.create(tmp_path)

        assert not ended.exists()
        assert not outside.exists()
        assert somebody_elses.exists()
        assert running.exists()


async def started(group: ProcessGroup, name: str, argv: list[str]) -> ManagedProcess:
    """Start a child; it prints something when it is ready for signals."""
    child = await group.start(name, argv)
    await eventually(lambda: child.log_tail() != "")
    return child
