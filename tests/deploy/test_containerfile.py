"""The Containerfile agrees with the project. No test builds the image, so none needs a container engine."""

from __future__ import annotations

import json
import tomllib

import pytest

from tests.deploy.manifests import ROOT


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """The instructions of deploy/Containerfile in order: (name, arguments)."""
    lines = (ROOT / "deploy" / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    pairs = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    return [(name, " ".join(arguments.split())) for name, arguments in pairs]


def last(instructions: list[tuple[str, str]], name: str) -> str:
    return [arguments for found, arguments in instructions if found == name][-1]


def test_the_image_runs_topsync_without_root(instructions: list[tuple[str, str]]) -> None:
    assert json.loads(last(instructions, "ENTRYPOINT")) == ["topsync"]
    assert last(instructions, "STOPSIGNAL") == "SIGTERM"
    user, group = last(instructions, "USER").split(":")
    assert int(user) >= 10000
    assert int(group) >= 10000


def test_everything_that_is_installed_is_pinned_in_constraints_txt(
    instructions: list[tuple[str, str]],
) -> None:
    commands = [
        " ".join(command.split())
        for name, arguments in instructions
        if name == "RUN"
        for command in arguments.split("&&")
        if "pip" in command.split()[0]
    ]

    assert commands
    for command in commands:
        hashed = "--require-hashes" in command and "--requirement constraints.txt" in command
        assert hashed or "--no-index" in command, command


def test_every_package_of_the_project_is_copied_and_in_the_build_context(
    instructions: list[tuple[str, str]],
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    copied = {
        source
        for name, arguments in instructions
        if name == "COPY" and not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    }
    ignored = (ROOT / ".dockerignore").read_text().splitlines()

    assert copied == packages | {"constraints.txt", "pyproject.toml", project["project"]["readme"]}
    assert "*" in ignored
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == copied


def test_what_is_for_trials_and_tests_is_not_in_the_build_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()

    for package in ("topsync/local", "topsync/simulator"):
        assert (ROOT / package).is_dir()
        # The last line that matches a path decides.
        assert ignored.index(package) > ignored.index("!topsync")
    assert (ROOT / "topsync" / "local" / "arming.py").is_file(), (
        "it must not be elsewhere, or the image has it"
    )
