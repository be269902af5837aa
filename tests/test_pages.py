"""Commands on pages work as they are printed; more in tests/system/calm/test_pages.py."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import orjson
import pytest
import typer.main

from tests.support import pages, translations
from tests.support.pages import Shell
from topsync.local import paths
from topsync.operate import cli
from topsync.simulator.server import Simulator
from topsync.simulator.settings import SimulatorSettings

HOW_TO = [page for page in pages.all_pages() if page.startswith("docs/how-to/add-")]
"""The commands on these pages are `make` lines."""

RUN_HERE = {"README.md", "CONTRIBUTING.md", "docs/simulator.md", *HOW_TO}
RUN_ON_A_SYSTEM = {"deploy/README.md", "docs/operations.md", "docs/sellers.md", "docs/subscribers.md"}
"""By tests/system/calm/test_pages.py."""
RUN_BY_OWN_TEST = {"docs/reference/certificate.md", "docs/tasks.md"}
"""By tests/model/test_certificate.py; by tests/system/test_restored.py, but for those that need a cluster."""
RUN_IN_ENGLISH = {chinese for english, chinese in translations.TRANSLATED.items() if pages.commands(english)}
"""Their commands are those of the English pages: tests/test_translations.py."""

COMMANDS = typer.main.get_command(cli.app)

INLINE = re.compile(r"`(topsync [a-z][^`]*)`")
PLACEHOLDER = re.compile(r"…|\.\.\.|\bNICK or ID\b")

PATH = re.compile(
    r"`((?:benchmarks|bootstrap|consumer|deploy|docs|examples|reconciler|schemas|soak|tests|topsync)/[\w./*-]*)`"
)


def test_a_test_runs_the_commands_of_every_page() -> None:
    claimed = RUN_HERE | RUN_ON_A_SYSTEM | RUN_BY_OWN_TEST | RUN_IN_ENGLISH
    assert {page for page in pages.all_pages() if pages.commands(page)} == claimed


@pytest.mark.parametrize("page", pages.all_pages())
def test_every_topsync_command_in_running_text_exists_with_its_options(page: str) -> None:
    for text in INLINE.findall(pages.read(page)):
        words = shlex.split(PLACEHOLDER.sub("x", text.replace("\n", " ")))
        command, rest = COMMANDS, words[1:]
        # A group may have options of its own: `topsync bootstrap --plan`.
        while rest and not rest[0].startswith("-") and (group := getattr(command, "commands", None)):
            assert rest[0] in group, f"{page}: {text}"
            command, rest = group[rest[0]], rest[1:]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        for word in rest:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, f"{page}: {text}"


@pytest.mark.parametrize("page", [page for page in pages.all_pages() if page != "CHANGELOG.md"])
def test_every_path_of_the_repository_that_a_page_names_exists(page: str) -> None:
    assert [path for path in PATH.findall(pages.read(page)) if not any(paths.CHECKOUT.glob(path))] == []


def test_every_how_to_is_in_its_index_and_in_contributing() -> None:
    names = {Path(page).name for page in HOW_TO}
    assert set(re.findall(r"\]\((add-[\w-]+\.md)\)", pages.read("docs/how-to/README.md"))) == names
    assert set(re.findall(r"\]\(docs/how-to/(add-[\w-]+\.md)\)", pages.read("CONTRIBUTING.md"))) == names


@pytest.mark.parametrize("page", HOW_TO)
def test_the_tests_that_a_how_to_names_exist(page: str) -> None:
    named = [word for command in pages.commands(page) for word in re.findall(r"tests/[\w./]+", command.text)]
    for path in [*named, *re.findall(r"`(tests/[\w./]+|schemas/[\w.]+|topsync/[\w./]+)`", pages.read(page))]:
        assert (paths.CHECKOUT / path).exists(), f"{page}: {path}"
    source = "".join(path.read_text() for path in (paths.CHECKOUT / "tests").rglob("test_*.py"))
    for test in re.findall(r"`(test_\w+)`", pages.read(page)):
        assert f"def {test}(" in source, f"{page}: {test}"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *HOW_TO])
async def test_every_make_line_names_a_target(page: str, tmp_path: Path) -> None:
    shell = Shell.at(paths.CHECKOUT, tmp_path, {})
    for command in pages.commands(page):
        program, *arguments = shlex.split(command.text)
        assert program == "make"
        # What it would run is printed instead; the suite cannot run itself.
        planned = await shell.run(shlex.join(["make", "--dry-run", *arguments]))
        assert "topsync.local.setup" in planned
        for argument in arguments:
            assert argument.removeprefix("ARGS=") in planned or argument in pages.read("Makefile")


async def test_the_commands_of_the_simulators_page_do_what_the_page_says(tmp_path: Path) -> None:
    assert shutil.which("curl"), "install curl: the page uses it"
    async with Simulator(SimulatorSettings(sellers=1, orders=50)) as platform:
        shell = Shell.at(tmp_path, tmp_path, {"ADMIN": platform.addresses.admin_url})
        lines = [command.text for command in pages.commands("docs/simulator.md")]
        create, pay, *faults = [line for line in lines if line.startswith("curl")]
        created = orjson.loads((await shell.run(f"{create} --silent --fail")).strip())
        # The order on the page is from another simulator.
        pay = re.sub(r'"tid": \d+', f'"tid": {created["tid"]}', pay)
        paid = orjson.loads((await shell.run(f"{pay} --silent --fail")).strip())
        assert paid["tid"] == created["tid"]
        for line in faults:
            await shell.run(f"{line} --silent --fail".replace("curl", "curl --globoff"))
        switched = orjson.loads(await shell.run("curl --silent --fail $ADMIN/faults"))
        assert "cut" in repr(switched)


async def test_the_program_on_the_simulators_page_runs(tmp_path: Path) -> None:
    program = re.search(r"```python\n(import asyncio.*?)```", pages.read("docs/simulator.md"), re.DOTALL)
    assert program is not None
    (tmp_path / "program.py").write_text(program[1])
    shell = Shell.at(tmp_path, tmp_path, {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(paths.CHECKOUT)})
    await shell.run_until("python program.py", "gateway_url")
