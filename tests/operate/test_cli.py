"""The command line: every command has a help, and a mistake gives one line and a status."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest
import typer
from cryptography.fernet import Fernet
from typer.core import TyperCommand, TyperGroup
from typer.testing import CliRunner

from tests.store.databases import SELLER, empty, settings_for
from tests.support import measuring
from tests.support.commands import Forked
from topsync.base import metrics, settings, telemetry
from topsync.operate import cli
from topsync.operate.cli import arguments
from topsync.store import database

SESSION = "6100e1aDEMOSESSION0001"
APP_SECRET = "very-secret-value-0001"


Command = TyperCommand | TyperGroup


def commands(group: TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Command]]:
    for name, command in group.commands.items():
        assert isinstance(command, Command)
        yield (*path, name), command
        if isinstance(command, TyperGroup):
            yield from commands(command, (*path, name))


ROOT = typer.main.get_command(cli.app)
assert isinstance(ROOT, TyperGroup)
COMMANDS = dict(commands(ROOT))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in settings.ALL:
        for name in cls.model_fields:
            monkeypatch.delenv(settings.variable(cls, name), raising=False)


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """What the entry point does: status, output, errors."""
    monkeypatch.setattr(sys, "argv", ["topsync", *arguments])
    # It would bind the loggers of this process for ever to what pytest uses as standard error.
    monkeypatch.setattr(telemetry, "configure_logging", lambda *_, **__: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    written = capsys.readouterr()
    return int(ended.value.code or 0), written.out, written.err


def test_the_commands_are_those_that_are_documented() -> None:
    assert {name for (name, *_) in COMMANDS} == {
        "push", "enrich", "reconcile", "witness", "bootstrap", "migrate", "topics", "sellers", "schema",
        "deadletter", "orders", "certificate",
        "status", "coverage", "gaps", "lateness", "budget", "replay", "report", "republish", "restored",
        "audit", "new-key", "settings", "metrics", "simulate", "demo",
    }  # fmt: skip


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_says_what_it_does_and_what_each_option_means(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    shown = CliRunner().invoke(cli.app, [*path, "--help"])
    assert shown.exit_code == 0
    assert command.help
    assert len(command.help) > 20
    for parameter in command.params:
        if parameter.name != "help":
            assert getattr(parameter, "help", None), f"{' '.join(path)} {parameter.name}"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_no_line_of_help_is_broken_on_a_terminal_of_80_columns(path: tuple[str, ...]) -> None:
    """The first paragraph is filled; lines of the others stay as they are in the docstring."""
    _, _, others = (COMMANDS[path].help or "").partition("\n\n")
    assert all(len(line) <= 78 for line in others.splitlines())


def test_without_a_command_the_help_is_shown() -> None:
    shown = CliRunner().invoke(cli.app, [])
    assert "bootstrap" in shown.output
    assert "Operations" in shown.output


@pytest.mark.parametrize(
    "arguments",
    [("migrate",), ("push",), ("audit",)],
    ids=" ".join,
)
def test_a_missing_setting_is_one_line_and_status_2(arguments: tuple[str, ...]) -> None:
    status, _, errors = by_itself(*arguments)
    complaints = [line for line in errors.split("\n") if line and not line.startswith("{")]
    assert status == 2, complaints
    assert len(complaints) == 1
    assert complaints[0].startswith("topsync")
    assert "it is not set" in complaints[0]


def by_itself(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """A command as a process of its own: status, output, errors."""
    variables = {"PATH": "/usr/bin:/bin", **measuring.VARIABLES, **environment}
    with TemporaryDirectory() as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        process = Forked(arguments, variables, Path(os.devnull), output, errors=errors)
        try:
            status = process.wait(60)
        finally:
            process.end()
        return status, output.read_text(), errors.read_text()


def started_anew(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """The same with a Python of its own, which takes most of a second of a core: status, output, errors."""
    ended = subprocess.run(
        [sys.executable, "-m", "topsync", *arguments],
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", **measuring.VARIABLES, **environment},
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


NOWHERE = "127.0.0.1:1"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("migrate",), "topsync: the database (TOPSYNC_DATABASE_URL) does not answer"),
        (("topics", "plan"), "topsync: Kafka (KAFKA_BOOTSTRAP_SERVERS) does not answer"),
    ],
    ids=["database", "Kafka"],
)
def test_a_server_that_is_away_is_named_in_one_line_and_no_trace_is_shown(
    arguments: tuple[str, ...], named: str
) -> None:
    status, output, errors = by_itself(
        *arguments,
        KAFKA_BOOTSTRAP_SERVERS=NOWHERE,
        TOPSYNC_DATABASE_URL=f"postgresql://user:secret-word@{NOWHERE}/topsync",
    )
    assert (status, output) == (1, "")
    assert errors.splitlines()[-1].startswith(named)
    assert "Traceback" not in errors
    assert "secret-word" not in errors


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_of_any_encoding_gets_the_whole_output(
    installed: str, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    add_seller(monkeypatch, f"{SESSION}\n", nick="示例店")
    seen = "示例店" if encoding == "utf-8" else r"\u793a\u4f8b\u5e97"
    environment = {"TOPSYNC_DATABASE_URL": installed, "PYTHONIOENCODING": encoding, "COLUMNS": "120"}
    status, output, errors = started_anew("sellers", "list", **environment)
    assert (status, errors) == (0, "")
    assert seen in output
    if encoding == "ascii":  # where the least can be written
        status, output, _ = started_anew("sellers", "list", "--json", **environment)
        assert orjson.loads(output)["sellers"][0]["nick"] == "示例店"
        assert started_anew("--help", **environment)[0] == 0
        _, _, errors = started_anew("sellers", "show", "没有", **environment)
        assert errors.startswith("topsync: no seller ")
        assert errors.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [("sellers", "show", b"\xff"), ("deadletter", "list", "--reason", b"a\x80"), (b"\xfe",)],
    ids=["nick", "reason", "command"],
)
def test_an_argument_that_is_not_text_is_refused_in_one_line(arguments: tuple[str | bytes, ...]) -> None:
    status, output, errors = by_itself(*(os.fsdecode(argument) for argument in arguments))
    assert (status, output) == (1, "")
    assert errors.count("\n") == 1
    assert " is no text in utf-8" in errors


BEYOND = str(2**63)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("sellers", "show", BEYOND), 1),
        (("sellers", "pause", BEYOND), 1),
        (("sellers", "resume", BEYOND), 1),
        (("sellers", "erase", BEYOND, "--confirm", BEYOND), 1),
        (("sellers", "add", "--nick", "x", "--user-id", BEYOND), 2),
        (("deadletter", "list", "--tid", BEYOND), 2),
        (("orders", "explain", BEYOND), 2),
        (("deadletter", "show", f"0/{BEYOND}"), 1),
        (("deadletter", "show", f"{BEYOND}/0"), 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_id_beyond_64_bits_is_refused_without_a_trace(
    installed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    expected: int,
) -> None:
    status, _, errors = run(monkeypatch, capsys, *arguments)
    assert status == expected
    assert "Traceback" not in errors
    assert expected == 2 or (errors.startswith("topsync: ") and errors.count("\n") == 1)


def test_a_database_that_refuses_is_named_in_one_line(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOPSYNC_DATABASE_URL", f"{database_url}_of_nobody")
    status, _, errors = run(monkeypatch, capsys, "sellers", "list")
    assert status == 1
    assert errors.startswith("topsync: the database (TOPSYNC_DATABASE_URL) does not answer, or refuses: ")
    assert errors.count("\n") == 1


def test_the_output_of_a_command_contains_no_logs(database_url: str) -> None:
    """It is for people, and with `--json` for the next command in a pipe."""
    status, output, errors = by_itself("migrate", TOPSYNC_DATABASE_URL=database_url)
    assert (status, errors) == (0, "")
    assert output.startswith("applied: 0001_initial.sql, ")
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("2026-11-20 10:00:00", datetime(2026, 11, 20, 10)),  # noqa: DTZ001 -- the platform's
        ("2026-11-20", datetime(2026, 11, 20)),  # noqa: DTZ001
        ("2026-11-20T02:00:00Z", datetime(2026, 11, 20, 10)),  # noqa: DTZ001
        ("2026-11-20T11:00+09:00", datetime(2026, 11, 20, 10)),  # noqa: DTZ001
    ],
)
def test_a_time_is_in_the_platforms_zone_unless_it_names_another(typed: str, read: datetime) -> None:
    assert arguments.platform_moment(typed) == read


@pytest.mark.parametrize("typed", ["2026", "1763600000", "soon", "", "0001-01-01", "1969-12-31"])
def test_a_text_that_is_no_time_of_the_platform_is_refused(typed: str) -> None:
    """Some parsers read a year as a count of seconds, which would be a time long ago."""
    with pytest.raises(typer.BadParameter, match="is no time"):
        arguments.platform_moment(typed)


@pytest.mark.parametrize("typed", ["-5", "0", str(2**63), "demo_one"])
def test_a_seller_without_a_valid_id_is_not_added(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str
) -> None:
    status, _, errors = run(monkeypatch, capsys, "sellers", "add", "--nick", "x", f"--user-id={typed}")
    assert status == 2
    assert "--user-id" in errors


def test_an_argument_that_cannot_be_right_is_refused_with_the_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, errors = run(monkeypatch, capsys, "replay", "--seller", "x", "--from", "soon", "--to", "later")
    assert status == 2
    assert "--from" in errors


@pytest.mark.parametrize("typed", ["12a", "", "1.5", "-1", "４"])
def test_a_wrong_number_of_an_order_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    status, _, errors = run(monkeypatch, capsys, "orders", "explain", "--", typed)
    assert status == 2
    assert "is no id of the platform, which is a number" in errors


@pytest.fixture
def installed(migrated_database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An environment with a migrated database in which nothing is; its address."""

    async def empty_it() -> None:
        async with database.connect(settings_for(migrated_database_url)) as pool:
            await empty(pool)

    asyncio.run(empty_it())
    monkeypatch.setenv("TOPSYNC_DATABASE_URL", migrated_database_url)
    monkeypatch.setenv("TOPSYNC_TOKEN_KEYS", Fernet.generate_key().decode())
    monkeypatch.setenv("TOPSYNC_APP_KEY", "99000001")
    monkeypatch.setenv("TOPSYNC_APP_SECRET", APP_SECRET)
    return migrated_database_url


def add_seller(monkeypatch: pytest.MonkeyPatch, session: str, *, nick: str = "demo_one") -> tuple[int, str]:
    """Through the runner, which can type something in."""
    ended = CliRunner().invoke(
        cli.app, ["sellers", "add", "--user-id", str(SELLER), "--nick", nick], input=session
    )
    return ended.exit_code, str(ended.exception or "")


def test_the_list_of_sellers_never_cuts_ids_and_nicks_on_a_terminal_of_80_columns(
    installed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert add_seller(monkeypatch, f"{SESSION}\n") == (0, "")
    run(monkeypatch, capsys, "sellers", "pause", "demo_one", "--reason", "a long reason " * 9)
    _, output, _ = run(monkeypatch, capsys, "sellers", "list")
    assert max(map(len, output.splitlines())) == 80
    assert f"\n{SELLER} " in output
    assert "…" not in output


def test_migrating_twice_says_that_nothing_was_left_to_do(
    installed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, output, _ = run(monkeypatch, capsys, "migrate")
    assert (status, output) == (0, "the schema is up to date\n")


def test_a_database_without_the_schema_is_reported_with_the_command_that_makes_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOPSYNC_DATABASE_URL", database_url)
    status, _, errors = run(monkeypatch, capsys, "sellers", "list")
    assert status == 1
    assert "run `topsync migrate` first" in errors
    assert errors.count("\n") == 1


def test_a_seller_is_added_with_its_session_from_standard_input_and_never_shown_with_it(
    installed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add_seller(monkeypatch, f"{SESSION}\n") == (0, "")
    for typed in (("sellers", "list"), ("status",)):
        status, output, _ = run(monkeypatch, capsys, *typed)
        assert status == (1 if typed == ("status",) else 0), "no service runs"
        assert "demo_one" in output
        assert SESSION not in output
        assert APP_SECRET not in output
    assert "not bootstrapped" in output


def test_a_seller_without_a_session_is_refused(
    installed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, complaints = add_seller(monkeypatch, "\n")
    assert status == 1
    assert "no session token on standard input" in complaints


def test_the_vault_accepts_a_new_key() -> None:
    made = CliRunner().invoke(cli.app, ["new-key"])
    Fernet(made.output.strip())


def test_the_metrics_are_listed_for_people_and_as_the_committed_page() -> None:
    runner = CliRunner()
    assert runner.invoke(cli.app, ["metrics", "--markdown"]).output == metrics.reference_page()
    shown = runner.invoke(cli.app, ["metrics"]).output
    assert [name for name in metrics.entered() if name not in shown] == []


def test_the_settings_are_listed_for_people_and_as_the_committed_page() -> None:
    runner = CliRunner()
    assert runner.invoke(cli.app, ["settings", "--markdown"]).output == settings.reference_page()
    shown = runner.invoke(cli.app, ["settings"])
    assert shown.exit_code == 0
