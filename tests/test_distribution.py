"""What an installation of the product holds: built as `pip install` and the image build it."""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from topsync.local import paths

PACKAGES = tomllib.loads((paths.CHECKOUT / "pyproject.toml").read_text())["tool"]["hatch"]["build"][
    "targets"
]["wheel"]["packages"]


@pytest.fixture(scope="module")
def installed_files(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The paths in the wheel."""
    (wheel,) = WheelBuilder(str(paths.CHECKOUT)).build(directory=str(tmp_path_factory.mktemp("wheel")))
    with zipfile.ZipFile(Path(wheel)) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_read_the_types_of_the_installed_package(
    installed_files: set[str], package: str
) -> None:
    """PEP 561: without this file a type checker reads everything imported from the package as `Any`."""
    assert f"{package}/py.typed" in installed_files
