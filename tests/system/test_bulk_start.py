"""P1, P4, P5: a bulk start in slices ends live and certified, whatever befalls one task of several.

The whole file uses one system, and orders change during all of it. Three sellers are cut into five slices of
orders each, nearly every one with a fault of its own; three others get no export. All of them start at once;
what fails is started again; then live sellers are started anew, for which the platform has tasks already.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import orjson
import pytest
import pytest_asyncio

from schemas import platform_time
from tests.support import systems
from tests.support.scenarios import Played, Stage, load, staged
from topsync.simulator.faults.base import DETAILS_CREATE
from topsync.simulator.settings import ExportSettings, SimulatorSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

RATE = 20
SLICES = 5
BAD, MANY_BAD, NAMELESS = 5, 25, 2
DAYS = 40
TIMES_TO_FAIL_A_SLICE = 3

PLATFORM: Final = SimulatorSettings(
    seed=16,
    sellers=6,
    orders=900,
    history_days=DAYS - 1,
    # So that the days have the same orders on each day on which the tests run.
    start_at=platform_time.parse("2026-05-20 10:00:00"),
    visibility_delay_seconds=1,
    exports=ExportSettings(schedule_seconds=1, run_seconds=1, office_hours=False),
)
SETTINGS: Final = {
    "TOPSYNC_EXPORT_DAYS": str(DAYS),
    "TOPSYNC_SLICE_ORDERS": "32",
    # Some of the unreadable orders change, and are fetched, before anybody asks for them.
    "TOPSYNC_REPAIR_TASKS_FROM": str(BAD + 1),
}

DOWNLOADS, TASKS, LINES, SHOPLESS, RIGHTLESS, STRICT = range(6)
"""The sellers: faults of the downloads, of the tasks, and in the lines; and three without an export, the last
of them under scheme three, which needs one."""

EXPORTED: Final = (DOWNLOADS, TASKS, LINES)
ANEW: Final = (DOWNLOADS, TASKS)
"""Those that are started once more when they are live."""

FAULTS: Final[Mapping[int, Sequence[tuple[str, Mapping[str, object]]]]] = {
    DOWNLOADS: [
        ("cut_download", {}),
        ("wrong_md5", {}),
        ("spent_url", {}),
        ("late_export", {"times": 1, "extra_seconds": 3}),
    ],
    TASKS: [
        ("failed_export", {"times": 1}),
        ("lost_export", {"times": 1}),
        ("other_days", {"times": 1, "days_later": 10}),
        ("empty_export", {"times": 1}),
    ],
    LINES: [
        ("bad_lines", {"lines": BAD}),
        ("bad_lines", {"lines": MANY_BAD}),
        ("bad_lines", {"lines": NAMELESS, "nameless": True}),
        ("failed_export", {"times": TIMES_TO_FAIL_A_SLICE}),
    ],
}
"""What strikes the first slices of these sellers, by the slice's number; the last one goes well."""


@dataclass(frozen=True)
class Started:
    """Bulk starts of everybody: the first run, in which two sellers fail, and the second."""

    stage: Stage
    played: Mapping[tuple[int, int], Played]
    """By seller and slice."""
    others: Sequence[Played]
    first: str
    """What the first run printed."""
    after_first: Mapping[tuple[int, int], Mapping[str, Any]]
    """The rows of `export_slices` between the two."""

    async def certificate(self, seller: int) -> Any:
        """A seller's newest certificate."""
        named = str(user_id(self.stage, seller))
        return orjson.loads(await self.stage.system.run("certificate", "show", named, "--json"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started(kafka_bootstrap_servers: str, database_server_url: str) -> AsyncIterator[Started]:
    async with staged(PLATFORM, kafka_bootstrap_servers, database_server_url, SETTINGS) as stage:
        system = stage.system
        await system.run("sellers", "scheme", str(user_id(stage, STRICT)), "three")
        played = await play(stage)
        others = play_to_whole_sellers(stage)
        stage.live(RATE)

        status, first = await system.try_run("bootstrap")
        assert status == 1, first
        after_first = await slices(stage)
        stage.lift(*others)
        await system.run("bootstrap")
        yield Started(stage, played, others, first, after_first)
        system.require_running()


async def test_every_fault_has_struck(started: Started) -> None:
    assert all(each.has_struck for each in chain(started.played.values(), started.others)), started


async def test_downloads_that_break_and_tasks_that_are_late_or_of_no_use_bring_the_whole_slice(
    started: Started,
) -> None:
    for seller in (DOWNLOADS, TASKS):
        for each in orders(await started.certificate(seller)):
            assert each["counts"]["published"] == each["counts"]["lines"]
            assert each["balance"]["counted"] == each["balance"]["objects"] == each["expected"]


async def test_refunds_are_exported_too(started: Started) -> None:
    for seller in EXPORTED:
        certificate = await started.certificate(seller)
        refunds = [each for each in certificate["slices"] if each["kind"] == "refund"]
        assert {each["way"] for each in refunds} == {"export"}
        assert sum(each["counts"]["published"] for each in refunds) > 0


async def test_a_task_that_failed_or_held_other_days_is_asked_for_in_other_words(started: Started) -> None:
    failed = {number: started.after_first[TASKS, number]["failed_tasks"] for number in range(SLICES)}
    # The lost task is asked for again in the same words, and the empty one is taken at its word.
    assert failed == {0: 1, 1: 0, 2: 1, 3: 0, 4: 0}


async def test_what_an_empty_export_hides_is_fetched_by_its_ids(started: Started) -> None:
    empty = orders(await started.certificate(TASKS))[3]
    assert empty["counts"]["lines"] == 0
    assert empty["balance"]["missing"] == empty["expected"] > 0


async def test_unreadable_lines_are_fetched_by_their_ids_and_nameless_lines_by_the_list(
    started: Started,
) -> None:
    few, many, nameless, *_ = orders(await started.certificate(LINES))
    assert few["counts"]["repaired"] == BAD
    assert many["counts"]["repaired"] == MANY_BAD
    assert nameless["counts"]["refused"] == nameless["balance"]["missing"] == NAMELESS
    assert await systems.calls(started.stage.system, DETAILS_CREATE) > 0


async def test_a_slice_that_cannot_be_had_delays_no_other_and_is_all_that_the_next_run_does(
    started: Started,
) -> None:
    failed = started.after_first[LINES, 3]
    assert failed["state"] != "stored"
    assert failed["failed_tasks"] == TIMES_TO_FAIL_A_SLICE
    assert f"{failed['first_day']} to {failed['last_day']}" in started.first
    for each in orders(await started.certificate(LINES)):
        before = started.after_first[LINES, each["number"]]
        if before is not failed:
            assert before["state"] == "stored"
            assert before["failure"] is None
            assert each["task"]["task_id"] == str(before["task_id"])


@pytest.mark.parametrize("seller", [SHOPLESS, RIGHTLESS])
async def test_without_an_export_lists_bring_the_same_and_the_certificate_says_why(
    started: Started, seller: int
) -> None:
    certificate = await started.certificate(seller)
    assert certificate["scheme"] == "auto"
    why = {SHOPLESS: "isv.shop-not-exist", RIGHTLESS: "11"}[seller]
    assert why in certificate["listed_because"]
    assert {each["way"] for each in certificate["slices"]} == {"list"}
    assert sum(each["balance"]["objects"] for each in orders(certificate)) > 0


async def test_a_scheme_that_needs_an_export_says_what_to_do_without_it(started: Started) -> None:
    nick = started.stage.platform.sellers[STRICT].nick
    (line,) = [line for line in started.first.splitlines() if line.startswith(f"{nick}: failed")]
    assert "have the right granted to the app, or set TOPSYNC_SCHEME to auto or one" in line
    certificate = await started.certificate(STRICT)
    assert certificate["scheme"] == "three"
    assert {each["way"] for each in orders(certificate)} == {"export"}


@pytest.mark.parametrize("seller", range(PLATFORM.sellers))
async def test_certificates_are_right_while_orders_change(started: Started, seller: int) -> None:
    await require_right(started.stage, seller)


async def test_a_live_seller_that_is_started_anew_is_certified_by_the_tasks_that_there_are(
    started: Started,
) -> None:
    """Nothing goes backwards, although the files are older than the table: see the audit, which is next."""
    stage, before = started.stage, {seller: await started.certificate(seller) for seller in ANEW}

    names = [("--seller", str(user_id(stage, seller))) for seller in ANEW]
    await stage.system.run("bootstrap", *chain.from_iterable(names))

    for seller in ANEW:
        after = await started.certificate(seller)
        assert after["certified_at"] > before[seller]["certified_at"]
        assert after["day_zero"]["day"] == before[seller]["day_zero"]["day"]
        assert all(each["task"]["adopted"] for each in orders(after))
        await require_right(stage, seller)


async def test_after_all_of_it_nothing_is_missing_and_nothing_went_backwards(started: Started) -> None:
    await systems.require_clean_audit(started.stage.system)
    reasons = {reason for _, reason in await started.stage.dead_letters()}
    assert reasons == {"unreadable_export_line"}


async def play(stage: Stage) -> dict[tuple[int, int], Played]:
    """Play the faults of `FAULTS`, each to the tasks of its slice alone."""
    played = {}
    _, printed = await stage.system.try_run("bootstrap", "--plan", "--json")
    planned = {line["seller_id"]: orders(line) for line in map(orjson.loads, printed.splitlines())}
    for seller, faults in FAULTS.items():
        of_seller = planned[user_id(stage, seller)]
        assert len(of_seller) == SLICES
        for number, (name, changes) in enumerate(faults):
            day = of_seller[number]["first_day"].replace("-", "")
            loaded = load(name, **{**changes, "day": day, "of": "orders"})
            played[seller, number] = stage.play(name, loaded, seller_id=user_id(stage, seller))
    return played


def play_to_whole_sellers(stage: Stage) -> list[Played]:
    """A file of refunds that breaks off; a request whose answer is lost, and whose task nobody names; and the
    refusals.
    """
    return [
        stage.play("cut_download", load("cut_download", of="refunds"), seller_id=user_id(stage, DOWNLOADS)),
        *(
            stage.play(name, load(name), seller_id=user_id(stage, DOWNLOADS))
            for name in ("reset", "unnamed_duplicate")
        ),
        *(
            stage.play("refused_export", load("refused_export", why=why), seller_id=user_id(stage, seller))
            for seller, why in ((SHOPLESS, "no_shop"), (RIGHTLESS, "no_right"), (STRICT, "no_right"))
        ),
    ]


def user_id(stage: Stage, seller: int) -> int:
    return stage.platform.sellers[seller].user_id


def orders(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The slices of orders in a plan or a certificate, in their order."""
    return [each for each in document["slices"] if each["kind"] == "order"]


async def slices(stage: Stage) -> dict[tuple[int, int], Mapping[str, Any]]:
    """All slices, by seller and number."""
    numbers = {seller.user_id: number for number, seller in enumerate(stage.platform.sellers)}
    rows = await systems.rows(stage.system, "select * from export_slices")
    return {(numbers[row["seller_id"]], row["number"]): dict(row) for row in rows}


async def require_right(stage: Stage, seller: int) -> None:
    """Check a seller's certificate against document, table and topic."""
    await systems.require_right_certificate(stage.system, user_id(stage, seller))
