"""The command line: thin, and quick to start; what a command needs is imported when it runs."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from topsync.base.errors import OperatorError, first_of

app = typer.Typer(
    name="topsync",
    help="Keeps a complete, current copy of Taobao/Tmall sellers' orders in Kafka and PostgreSQL.\n\n"
    "Settings come from the environment: docs/reference/settings.md lists them all.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
sellers_app = typer.Typer(help="Sellers and their sessions.", no_args_is_help=True)
app.add_typer(sellers_app, name="sellers", rich_help_panel="Operations")

deadletter_app = typer.Typer(
    help="Records that could not be read or done: see them, try them again, close them.", no_args_is_help=True
)
app.add_typer(deadletter_app, name="deadletter", rich_help_panel="Operations")

replay_app = typer.Typer()
app.add_typer(replay_app, name="replay", rich_help_panel="Operations")

topics_app = typer.Typer(help="The cluster's topics.", no_args_is_help=True)
app.add_typer(topics_app, name="topics", rich_help_panel="Jobs (each ends by itself)")
schema_app = typer.Typer(help="The contract: JSON Schema and AsyncAPI of the topics.", no_args_is_help=True)
app.add_typer(schema_app, name="schema", rich_help_panel="Operations")

SERVICES = "Services (each runs until SIGTERM)"
JOBS = "Jobs (each ends by itself)"
OPERATIONS = "Operations"
TRYING = "Trying it out"

FIRST_YEAR = 2000
"""Before there was a platform: an earlier time is a slip, and none that Kafka knows."""


def platform_moment(text: str) -> datetime:
    """A time as somebody types it: the platform's (GMT+8), unless it names another zone."""
    from schemas import platform_time

    try:
        typed = datetime.fromisoformat(text.strip())
        moment = typed if typed.tzinfo is None else typed.astimezone(platform_time.CHINA)
    except (ValueError, OverflowError):
        moment = None
    if moment is None or moment.year < FIRST_YEAR:
        raise typer.BadParameter(f"{text!r} is no time such as '2026-11-20 10:00:00'")
    return moment.replace(tzinfo=None)


def platform_id(text: str) -> int:
    """An id of the platform: a seller's, an order's."""
    from schemas.types import parse_id

    try:
        return parse_id(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def seller_nick(text: str) -> str:
    """A nick that a seller may have."""
    from topsync.store import sellers

    try:
        return sellers.valid_nick(text)
    except sellers.NickError as error:
        raise typer.BadParameter(str(error)) from None


Moment = partial(typer.Option, parser=platform_moment, metavar="<time>")

Reason = Annotated[str | None, typer.Option(help="Only of this reason, e.g. `refused`.")]
OfSeller = Annotated[str | None, typer.Option(help="Only of this seller: nick or id.")]
OfOrder = Annotated[int | None, typer.Option(parser=platform_id, metavar="<id>", help="Only of this order.")]
Since = Annotated[
    datetime | None,
    Moment(help="Only from then on: platform time (GMT+8), e.g. '2026-11-20 10:00:00'."),
]
LetterName = Annotated[str, typer.Argument(help="The letter's id, as `list` shows it, e.g. 0/17.")]
LetterNames = Annotated[list[str] | None, typer.Argument(help="Ids as `list` shows them.")]
AtOnce = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="So many at once at most.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Sure = Annotated[bool, typer.Option("--yes", help="Do not ask, however many.")]
AsJson = Annotated[bool, typer.Option("--json", help="For machines: one object a line.")]
AsDocument = Annotated[bool, typer.Option("--json", help="For machines: one document.")]

SellerName = Annotated[str, typer.Argument(help="The seller's nick or id.")]


def main() -> None:
    """Entry point; a failure that an operator can do something about is one line, not a trace."""
    from topsync.base import failpoints, telemetry, terminal
    from topsync.base.service import EXIT_FAILED, EXIT_SETTINGS
    from topsync.base.settings import SettingsError, TelemetrySettings

    terminal.prepare()
    try:
        _require_text(sys.argv)
        failpoints.arm(os.environ)
        # A command prints for people, or for the next in a pipe; a service sets up its own.
        quiet = TelemetrySettings.model_construct(log_level="warning", log_format="console")
        telemetry.configure_logging(quiet, process="command")
        app()
    except* OperatorError as group:
        error = first_of(group)
        terminal.complain(f"topsync: {error}")
        sys.exit(EXIT_SETTINGS if isinstance(error, SettingsError) else EXIT_FAILED)


def _require_text(arguments: Sequence[str]) -> None:
    """Refuse what the terminal's encoding cannot read: no nick and no id looks like that."""
    for argument in arguments:
        if not argument.isprintable() and any("\ud800" <= char <= "\udfff" for char in argument):
            raise OperatorError(
                f"{argument} is no text in {sys.getfilesystemencoding()}, in which arguments are read: "
                "type it again, or set LANG to the encoding of the terminal"
            )


@app.command(rich_help_panel=SERVICES)
def push() -> None:
    """Receive order messages on the channel and publish them to `changes`; confirm what Kafka has."""
    from topsync.base import service
    from topsync.wiring import processes

    service.run("push", processes.push)


@app.command(rich_help_panel=SERVICES)
def enrich(
    drain: Annotated[
        bool,
        typer.Option(
            "--drain",
            help="Read all that is left in `changes` and `snapshots`, and end: before they are made anew, "
            "because somebody has added partitions (docs/operations.md).",
        ),
    ] = False,
) -> None:
    """Turn `changes` and `snapshots` into full orders: table `orders`, topic `orders`."""
    from topsync.base import service
    from topsync.wiring import processes

    service.run("enrich", partial(processes.enrich, drain=drain))


@app.command(rich_help_panel=SERVICES)
def reconcile() -> None:
    """Pull what push may have missed: gaps, sweeps, operators' replays."""
    from topsync.base import service
    from topsync.wiring import processes

    service.run("reconcile", processes.reconcile)


@app.command(rich_help_panel=SERVICES)
def witness() -> None:
    """Read `orders` from the start, as a subscriber, and watch that no order goes backwards."""
    from topsync.base import service
    from topsync.wiring import processes

    service.run("witness", processes.witness)


@app.command(rich_help_panel=JOBS)
def bootstrap(
    seller: Annotated[
        list[str] | None, typer.Option(help="A seller's nick or id; repeatable. Without it: all new ones.")
    ] = None,
) -> None:
    """Start sellers: subscribe, bulk export up to yesterday, today's increments, certificate.

    Goes on where an earlier run stopped. The push service must be running.
    """
    from topsync.base import service
    from topsync.wiring import processes

    service.run("bootstrap", partial(processes.bootstrap, names=seller or []))


@app.command(rich_help_panel=JOBS)
def migrate() -> None:
    """Bring the database's schema up to date."""
    from topsync.operate import installation_commands

    asyncio.run(installation_commands.migrate())


@topics_app.command("plan")
def topics_plan() -> None:
    """Show how the cluster's topics differ from what they should be. Exit status 0: not at all."""
    from topsync.operate import installation_commands

    sys.exit(asyncio.run(installation_commands.plan_topics()))


@topics_app.command("apply")
def topics_apply() -> None:
    """Create missing topics and set what differs in their configuration; say what was done.

    The numbers of partitions and replicas are never changed. Where they differ,
    the exit status is 1.
    """
    from topsync.operate import installation_commands

    sys.exit(asyncio.run(installation_commands.apply_topics()))


@sellers_app.command("add")
def sellers_add(
    user_id: Annotated[
        int, typer.Option(parser=platform_id, metavar="<id>", help="The seller's user id on the platform.")
    ],
    nick: Annotated[str, typer.Option(parser=seller_nick, metavar="<nick>", help="The seller's nick.")],
    token_file: Annotated[
        Path | None, typer.Option(help="Read the session from this file instead of standard input.")
    ] = None,
    ends: Annotated[
        datetime | None,
        Moment(help="When the session ends (GMT+8), so that its end is told in time."),
    ] = None,
) -> None:
    """Add a seller, or give it another session, which is never given on the command line.

    What is read is the session token alone, or the whole JSON answer of the
    platform's token endpoint, as it came just now: then its ends and its refresh
    token are kept as well. `sellers authorise` does it for you.
    """
    from topsync.base import terminal
    from topsync.operate import seller_commands

    handed_in = (
        seller_commands.read_token_file(token_file)
        if token_file is not None
        else terminal.read_secret(
            "The session, or the token endpoint's answer", seller_commands.MAX_TOKEN_BYTES
        )
    )
    asyncio.run(seller_commands.add(user_id, nick, handed_in, ends))


@sellers_app.command("import")
def sellers_import() -> None:
    """Add many sellers at once: read from standard input, one JSON object a line.

    Each line has `user_id`, `nick` and `session`, the session token, and may have
    `ends`, when the session ends (GMT+8). All are added, or none.
    """
    from topsync.base import terminal
    from topsync.operate import seller_commands

    handed_in = terminal.read_all("One seller a line, as JSON", seller_commands.MAX_IMPORT_BYTES + 1)
    asyncio.run(seller_commands.add_all(handed_in))


@sellers_app.command("authorise")
def sellers_authorise(
    seller: Annotated[
        str | None, typer.Argument(help="Nick or id. Without it: whoever authorises, added if new.")
    ] = None,
    code: Annotated[
        str | None,
        typer.Option(help="The code, or the whole address that the seller was sent back to; asks nothing."),
    ] = None,
) -> None:
    """Have a seller authorise, and keep the session; an expired seller goes on where it stopped.

    Prints the address to open, and asks for what the browser came back with. A
    session of another seller is refused. What changed without a session is
    replayed. Needs TOPSYNC_OAUTH_REDIRECT_URL; docs/sellers.md tells it step by
    step.
    """
    from topsync.base import terminal
    from topsync.operate import seller_commands

    asyncio.run(seller_commands.authorise(seller, code, terminal.ask))


@sellers_app.command("list")
def sellers_list(as_json: AsDocument = False) -> None:
    """List the sellers: where each stands and why, how long its session lasts, how many orders are parked."""
    from topsync.operate import seller_commands

    asyncio.run(seller_commands.list_all(as_json=as_json))


@sellers_app.command("show")
def sellers_show(seller: SellerName, as_json: AsDocument = False) -> None:
    """Show one seller: state and reason, session, how far it is complete, gaps, parked orders, bulk start."""
    from topsync.operate import seller_commands

    asyncio.run(seller_commands.show(seller, as_json=as_json))


@sellers_app.command("pause")
def sellers_pause(
    seller: SellerName,
    reason: Annotated[str, typer.Option(help="Why, for those who ask later.")] = "by an operator",
) -> None:
    """Hold a seller: no call, no sweep, until it is resumed. The orders of its messages are parked.

    Running processes notice within ten seconds; what is under way for it comes to
    its end.
    """
    from topsync.operate import seller_commands

    asyncio.run(seller_commands.pause(seller, reason))


@sellers_app.command("resume")
def sellers_resume(seller: SellerName) -> None:
    """Let a paused seller go on: it is subscribed anew, and the time since its last proof is replayed."""
    from topsync.operate import seller_commands

    asyncio.run(seller_commands.resume(seller))


@sellers_app.command("erase")
def sellers_erase(
    seller: SellerName,
    confirm: Annotated[
        str | None,
        typer.Option(help="For scripts: the seller's nick or id, as it would be typed; asks nothing."),
    ] = None,
    wait_seconds: Annotated[
        float, typer.Option(min=1, help="How long the enrichers may make no progress before it gives up.")
    ] = 300,
) -> None:
    """Erase all that is kept of a seller, and tell subscribers by a tombstone of each order.

    Says first what goes, and asks for the seller's nick or id. It may be
    interrupted at any moment, and run again. The enrichers must be running: only
    they write orders. Exit status 0: all of it is done. docs/sellers.md says what
    stays, and for how long.
    """
    from topsync.base import terminal
    from topsync.operate import erase_command

    sys.exit(asyncio.run(erase_command.erase(seller, confirm, terminal.ask, patience_seconds=wait_seconds)))


@sellers_app.command("rekey")
def sellers_rekey(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing, only say whether an older key is needed.")
    ] = False,
) -> None:
    """Encrypt all stored tokens with the first of TOPSYNC_TOKEN_KEYS, so that older keys can go.

    First give every process the new key behind the old one, and when all know
    it, in front. Says which keys are in use. Exit status 0 says that no stored
    token needs any other key than the first; 1, that some does, or that no key
    opens it.
    """
    from topsync.operate import seller_commands

    sys.exit(asyncio.run(seller_commands.rekey(only_check=check)))


@deadletter_app.command("list")
def deadletter_list(
    reason: Reason = None,
    seller: OfSeller = None,
    tid: OfOrder = None,
    since: Since = None,
    dealt_with: Annotated[bool, typer.Option("--all", help="Also the retried and closed ones.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many at most: the newest.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the open dead letters, the newest last: when, why, whose order, set aside by whom."""
    from topsync.operate import dead_letter_commands
    from topsync.operate.dead_letter_desk import Filter

    which = Filter(reason, seller, tid, since, dealt_with)
    asyncio.run(dead_letter_commands.list_letters(which, limit=limit, as_json=as_json))


@deadletter_app.command("show")
def deadletter_show(
    letter: LetterName,
    original: Annotated[
        bool,
        typer.Option(
            "--original", help="Also what is in it, which may be data of buyers: mind who looks on."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter with the headers of its record; what is in it only with --original."""
    from topsync.operate import dead_letter_commands

    asyncio.run(dead_letter_commands.show(letter, original=original, as_json=as_json))


@deadletter_app.command("retry")
def deadletter_retry(
    letters: LetterNames = None,
    reason: Reason = None,
    seller: OfSeller = None,
    tid: OfOrder = None,
    since: Since = None,
    limit: AtOnce = 1000,
    dry_run: DryRun = False,
    yes: Sure = False,
) -> None:
    """Ask the platform again for the orders of dead letters, in the operator's priority. Idempotent.

    Which ones: their ids, or open ones by reason, seller, order or time. Mend the
    cause first. A letter that names no order cannot be tried again; the answer
    says what helps instead.
    """
    from topsync.base import terminal
    from topsync.operate import dead_letter_commands
    from topsync.operate.dead_letter_desk import Filter

    which = Filter(reason, seller, tid, since)
    request = dead_letter_commands.LetterRequest(letters or [], which, limit, dry_run, yes, terminal.ask)
    sys.exit(asyncio.run(dead_letter_commands.retry(request)))


@deadletter_app.command("close")
def deadletter_close(
    because: Annotated[
        str, typer.Option(help="What was done about it, in a line that `list --all` and `show` repeat.")
    ],
    letters: LetterNames = None,
    reason: Reason = None,
    seller: OfSeller = None,
    tid: OfOrder = None,
    since: Since = None,
    limit: AtOnce = 1000,
    dry_run: DryRun = False,
    yes: Sure = False,
) -> None:
    """Say that dead letters are dealt with: `list` leaves them out. Nothing else is done about them.

    Which ones: their ids, or open ones by reason, seller, order or time. Meant
    for letters that name no order and so cannot be tried again; one that does can
    be, closed or not. Closing again replaces the words.
    """
    from topsync.base import terminal
    from topsync.operate import dead_letter_commands
    from topsync.operate.dead_letter_desk import Filter

    which = Filter(reason, seller, tid, since)
    request = dead_letter_commands.LetterRequest(letters or [], which, limit, dry_run, yes, terminal.ask)
    asyncio.run(dead_letter_commands.close(request, because))


@schema_app.command("export")
def schema_export(
    folder: Annotated[
        Path | None, typer.Argument(help="Where to; without it, the released ones in the package.")
    ] = None,
) -> None:
    """Write the documents of the contract; refused where that would break what is released there."""
    from topsync.contract import documents

    documents.export(folder or documents.FOLDER)


@schema_app.command("check")
def schema_check() -> None:
    """Compare the code with the released documents and say what differs. Exit status 0: nothing."""
    from topsync.base import terminal
    from topsync.contract import documents

    findings = documents.compare(documents.read(documents.FOLDER), documents.documents())
    terminal.say(*map(str, findings))
    sys.exit(1 if findings else 0)


@app.command(rich_help_panel=OPERATIONS)
def status(as_json: AsDocument = False) -> None:
    """Show how things stand: services, push, lag, what waits, calls, sellers; and last, what is wrong."""
    from topsync.operate import installation_commands

    asyncio.run(installation_commands.status(as_json=as_json))


@replay_app.callback(invoke_without_command=True)
def replay(
    context: typer.Context,
    seller: Annotated[str | None, typer.Option(help="The seller's nick or id.")] = None,
    start: Annotated[
        datetime | None,
        Moment("--from", help="Platform time (GMT+8), e.g. '2026-11-20 10:00:00'; at most 90 days ago."),
    ] = None,
    end: Annotated[
        datetime | None,
        Moment("--to", help="Platform time (GMT+8); up to now is pulled, if it is later."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only say what it would fetch and cost. Listing spends calls all the same."
        ),
    ] = False,
    request_id: Annotated[
        str | None,
        typer.Option(
            "--id",
            help="Makes the request idempotent; without it one is made up. Alone, it shows that replay.",
        ),
    ] = None,
    wait_seconds: Annotated[float, typer.Option(min=0, help="How long to wait for the outcome.")] = 300,
    as_json: AsJson = False,
) -> None:
    """Ask the reconciler to pull a seller's changes of a span again, and show the outcome.

    Ctrl-C does not stop it: `topsync replay --id ID` shows it again. Exit
    status 0: done; 1: failed, or still under way.
    """
    from topsync.operate import replay_commands

    wanted = (seller, start, end)
    if context.invoked_subcommand is not None:
        if any((*wanted, request_id, dry_run, as_json)):
            raise typer.BadParameter(f"options come behind `{context.invoked_subcommand}`, which has its own")
        return
    if request_id is not None and not any((*wanted, dry_run)):
        sys.exit(asyncio.run(replay_commands.show(request_id, wait_seconds=wait_seconds, as_json=as_json)))
    if seller is None or start is None or end is None:
        raise typer.BadParameter("a replay needs --seller, --from and --to; --id alone shows one")
    asked = replay_commands.Asked(seller, start, end, dry_run, request_id)
    sys.exit(asyncio.run(replay_commands.request(asked, wait_seconds=wait_seconds, as_json=as_json)))


@replay_app.command("list")
def replay_list(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many at most: the newest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the replays, the newest first: whose, which span, who asked, and what became of it."""
    from topsync.operate import replay_commands

    asyncio.run(replay_commands.list_jobs(limit=limit, as_json=as_json))


@replay_app.command("cancel")
def replay_cancel(
    replay_id: Annotated[str, typer.Argument(help="The replay's id, as `list` shows it.")],
) -> None:
    """Cancel a replay: it is not begun, or stops within seconds. What it pulled stays. Idempotent."""
    from topsync.operate import replay_commands

    sys.exit(asyncio.run(replay_commands.cancel(replay_id)))


@app.command(rich_help_panel=OPERATIONS)
def republish(
    seller: Annotated[str | None, typer.Option(help="Only what belongs to this seller: nick or id.")] = None,
    tids: Annotated[
        list[int] | None,
        typer.Option(
            "--order",
            parser=platform_id,
            metavar="<id>",
            help="Only this order and its refunds; repeatable.",
        ),
    ] = None,
    only: Annotated[str | None, typer.Option(help="`orders` or `refunds`; without it, both.")] = None,
    per_second: Annotated[
        int, typer.Option(min=1, max=5000, help="So many records a second at most, of all partitions.")
    ] = 500,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many records it would be, and how long it takes.")
    ] = False,
    republication: Annotated[
        str | None, typer.Option("--id", help="Show one that was begun, and wait for its end.")
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="With --id: end it.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")] = True,
) -> None:
    """Publish again what the tables hold to `orders` and `refunds`: after a topic was lost.

    Without options, everything. The enrichers must be running: only they publish,
    the same revisions as before, beside the live changes. It survives whatever
    ends, this command included; `--id` finds it again. Exit status 0: it is done.
    docs/operations.md says when it is needed.
    """
    from topsync.model.compacted_topic import Compacted
    from topsync.operate import republish_command

    if republication is not None:
        if seller is not None or tids or only is not None or dry_run:
            raise typer.BadParameter("--id is of one that was begun: it says what is published again")
        sys.exit(asyncio.run(republish_command.follow(republication, cancel=cancel, wait=wait)))
    if cancel:
        raise typer.BadParameter("--cancel needs --id")
    if only is not None and only not in [*Compacted]:
        raise typer.BadParameter(f"--only is one of {', '.join(Compacted)}")
    wish = republish_command.RepublishRequest(
        seller, tids or [], None if only is None else Compacted(only), per_second, dry_run, wait
    )
    sys.exit(asyncio.run(republish_command.republish(wish)))


@app.command(rich_help_panel=OPERATIONS)
def audit(
    settle_seconds: Annotated[
        float,
        typer.Option(help="So long what differs at the first look is looked at again; then it is wrong."),
    ] = 60,
    as_json: AsDocument = False,
) -> None:
    """Compare order by order: platform = table = compacted topic. Exit status 0 only when all four are 0.

    Orders may go on changing: what differs has --settle-seconds to arrive.

    The platform's truth is the simulator's: TOPSYNC_SIMULATOR_ADMIN_URL.
    """
    from topsync.operate import installation_commands

    sys.exit(asyncio.run(installation_commands.audit(settle_seconds=settle_seconds, as_json=as_json)))


@app.command("new-key", rich_help_panel=OPERATIONS)
def new_key() -> None:
    """Print a fresh key for TOPSYNC_TOKEN_KEYS."""
    from topsync.base import terminal, vault

    terminal.say(vault.new_key())


@app.command("settings", rich_help_panel=OPERATIONS)
def settings_page(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The reference page as it is committed.")
    ] = False,
) -> None:
    """List all settings with default and meaning."""
    from topsync.base import settings, terminal
    from topsync.operate import installation_commands

    if markdown:
        terminal.write(settings.reference_page())
    else:
        installation_commands.show_settings()


@app.command(rich_help_panel=TRYING)
def simulate(
    seed: Annotated[int, typer.Option(help="The same seed makes the same orders.")] = 1,
    sellers: Annotated[int, typer.Option(help="Number of sellers.")] = 3,
    orders: Annotated[int, typer.Option(help="Orders of all sellers together at the start.")] = 3000,
    rate: Annotated[float, typer.Option(help="Live changes per second, over all sellers.")] = 0,
    day: Annotated[bool, typer.Option("--day", help="Changes as on an ordinary day.")] = False,
    workers: Annotated[
        int, typer.Option(min=0, max=64, help="Processes that answer calls, for load; 0: this one does.")
    ] = 0,
    start_at: Annotated[
        datetime | None, Moment(help="The platform's clock at the start (GMT+8); without it, now.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    gateway_port: Annotated[int, typer.Option(help="Port of the REST gateway; 0 chooses a free one.")] = 0,
    channel_port: Annotated[int, typer.Option(help="Port of the message channel; 0 chooses.")] = 0,
    oauth_port: Annotated[int, typer.Option(help="Port of `/authorize` and `/token`; 0 chooses.")] = 0,
    admin_port: Annotated[int, typer.Option(help="Port of the administrative interface; 0 chooses.")] = 0,
    app_key: Annotated[str, typer.Option(help="The application that may call.")] = "99000001",
    app_secret: Annotated[
        str, typer.Option(envvar="TOPSYNC_APP_SECRET", help="Its secret.")
    ] = "simulator-secret-0001",  # noqa: S107 -- of a platform that does not exist
    visibility_delay: Annotated[int, typer.Option(help="Seconds by which lists may show a change late.")] = 0,
    answer_seconds: Annotated[
        float, typer.Option(min=0, max=60, help="How long after a call its answer comes.")
    ] = 0,
    export_schedule: Annotated[int, typer.Option(help="Seconds between two runs of the export.")] = 1800,
    export_run: Annotated[int, typer.Option(help="Seconds that an export takes at least.")] = 60,
    office_hours: Annotated[bool, typer.Option(help="Exports run from 01:00 to 23:00 only.")] = True,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write the addresses there, as JSON, once listening.")
    ] = None,
    scenario: Annotated[
        Path | None, typer.Option(help="TOML file of settings and timed faults; what it sets wins.")
    ] = None,
    list_faults: Annotated[
        bool, typer.Option("--list-faults", help="Only print the catalogue of faults.")
    ] = False,
) -> None:
    """Run the platform's stand-in: gateway, message channel and exports, with fault switches.

    docs/simulator.md says how to point a client at it and what it checks.
    """
    from topsync.local import simulation
    from topsync.simulator.settings import ExportSettings, SimulatorSettings

    if list_faults:
        simulation.list_faults()
        return
    simulation.run(
        SimulatorSettings(
            seed=seed,
            sellers=sellers,
            orders=orders,
            rate=rate,
            day=day,
            workers=workers,
            start_at=simulation.platform_instant(start_at),
            host=host,
            gateway_port=gateway_port,
            channel_port=channel_port,
            oauth_port=oauth_port,
            admin_port=admin_port,
            app_key=app_key,
            app_secret=app_secret,
            visibility_delay_seconds=visibility_delay,
            answer_seconds=answer_seconds,
            exports=ExportSettings(
                schedule_seconds=export_schedule, run_seconds=export_run, office_hours=office_hours
            ),
        ),
        ready_file,
        scenario,
    )


@app.command(rich_help_panel=TRYING)
def demo(
    orders: Annotated[int, typer.Option(help="Orders of all sellers together at the start.")] = 5000,
    sellers: Annotated[int, typer.Option(help="Number of sellers.")] = 3,
    rate: Annotated[float, typer.Option(help="Live changes per second.")] = 20,
    seed: Annotated[int, typer.Option(help="The same seed makes the same orders.")] = 1,
    outage: Annotated[float, typer.Option(help="Seconds that the push connection is cut.")] = 6,
    exit_after: Annotated[bool, typer.Option("--exit", help="End after the audit, with its status.")] = False,
) -> None:
    """Tell the whole story on this machine: bulk start, push, an outage, the replayed gap, the audit."""
    from topsync.local.demo import demo as story

    sys.exit(
        story.run(
            story.Options(
                orders=orders,
                sellers=sellers,
                rate=rate,
                seed=seed,
                outage_seconds=outage,
                exit_after=exit_after,
            )
        )
    )
