"""Files and folders that no other user may read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from topsync.base import private_files


@pytest.fixture(autouse=True)
def open_to_all() -> Iterator[None]:
    """The process would let everybody read what it makes."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_is_closed_whether_it_was_there_or_not(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    private_files.make_folder(folder)
    assert mode(folder) == 0o700
    folder.chmod(0o755)
    private_files.make_folder(folder)
    assert mode(folder) == 0o700


def test_a_link_or_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(FileExistsError):
            private_files.make_folder(tmp_path / name)
    assert mode(tmp_path / "real") == 0o755


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private_files.make_folder(tmp_path / "theirs")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PermissionError, match="another user"):
        private_files.make_folder(tmp_path / "theirs")


def test_a_file_is_new_and_closed_whatever_had_its_name(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "file", tmp_path / "elsewhere"
    elsewhere.write_bytes(b"precious")
    path.symlink_to(elsewhere)
    for _ in range(2):
        with private_files.create(path) as file:
            file.write(b"secret")
        assert not path.is_symlink()
        assert (path.read_bytes(), mode(path)) == (b"secret", 0o600)
        path.chmod(0o644)
    assert elsewhere.read_bytes() == b"precious"
