"""Detail calls that sweeps cause on an ordinary day, for each message. Calculated: the same everywhere.

The day is `topsync/simulator/day.py`, played in a virtual time. Each scene is played through by itself,
because between two scenes of an order there are hours: message by message and sweep by sweep, by the rules
of `consumer/enrich/read/decisions.py` and `topsync/coverage/settling.py`. No message is lost, and each sweep
and fetch works at once. `benchmarks/coalescing.py` counts the same in a running system.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from heapq import heapify, heappop, heappush
from typing import Final, Literal

from benchmarks.report import Report, Row
from topsync.coverage import settling
from topsync.model import linger
from topsync.platforms.taobao.linger import WORDS
from topsync.simulator.clock import PlatformClock
from topsync.simulator.day import CHANGES_PER_SCENE, Day
from topsync.simulator.settings import PlatformQuirks, WorldSettings
from topsync.simulator.topics import notices_of
from topsync.simulator.world import Happening, World

SEED: Final = 1
SELLERS: Final = 3
ORDERS: Final = 3000
CHANGES_PER_SECOND: Final = 40
SECONDS: Final = 200
TICK_SECONDS: Final = 0.02

ANSWER_SECONDS: Final = 0.03
"""From a message to the begin of its fetch."""
HINT_SECONDS: Final = 0.1
"""From a list to the begin of the fetch that it asks for."""
REHINT_SECONDS: Final = 2.0
"""Until a pull asks again for the first time; then it waits twice as long."""
DETAIL_LAG_SECONDS: Final = 1.0
VISIBILITY_SECONDS: Final = 600.0
"""Production's allowances."""

QUIET_SECONDS: Final = settling.QUIET.total_seconds()
UNHURRIED: Final = {
    topic: wait.total_seconds() for topic, wait in linger.parse(linger.UNHURRIED, WORDS).items()
}
INTERVALS_SECONDS: Final = (5.0, 300.0)
"""The usual interval is 300 s; systems that are tried out have 5 s."""
OTHER_QUIETS_SECONDS: Final = (5.0, 15.0, 30.0, 120.0)
SETTLED_SECONDS: Final = 1 + DETAIL_LAG_SECONDS
"""After a message its second has settled, and a fetch is a proof itself."""

SETUP: Final = (
    f"Calculated, not measured: {SECONDS} s of the ordinary day (`topsync/simulator/day.py`) with "
    f"{CHANGES_PER_SECOND} changes a second, seed {SEED}, each scene by itself, and no message lost. A call "
    "is a call for an order's detail. *Fetched at once*: each message leads to a fetch. *Unhurried*: "
    "`TOPSYNC_LINGER=unhurried`. *Once settled*: each first fetch waits "
    f"{SETTLED_SECONDS:g} s, until it is a proof itself. *Each sweep proves all*: a sweep has every order "
    "fetched again whose last fetch began before the second of its change had settled. *After the quiet*: "
    f"only those that have not changed for {QUIET_SECONDS:g} s, as topsync does. The allowance for the lag "
    f"of lists is {VISIBILITY_SECONDS:g} s, for that of details {DETAIL_LAG_SECONDS:g} s. *All calls* "
    "include those for orders that a sweep found changed while their messages still waited for others."
)


@dataclass(frozen=True, slots=True)
class Sent:
    """A message."""

    at: float
    topic: str


@dataclass(slots=True)
class Played:
    """A scene of an order: when it changed, and its messages. Seconds since the beginning of the day."""

    changed_at: list[float] = field(default_factory=list)
    messages: list[Sent] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Way:
    """When something is fetched. Times are in seconds."""

    sweep_interval: float
    quiet: float | None = None
    """How long a sweep waits for another change before it wants a proof; None: not at all."""
    waits: Literal["none", "unhurried", "settled"] = "none"

    def wait(self, topic: str) -> float:
        """From a message to its fetch, if nothing else asks for the order."""
        match self.waits:
            case "none":
                return ANSWER_SECONDS
            case "unhurried":
                return UNHURRIED.get(topic, ANSWER_SECONDS)
            case "settled":
                return SETTLED_SECONDS

    def proven_by(self, swept_at: float) -> float:
        """Up to when a sweep wants all changes proven: `topsync.coverage.settling.proven_by`."""
        return swept_at if self.quiet is None else swept_at - min(self.quiet, VISIBILITY_SECONDS)


@dataclass(frozen=True, slots=True)
class Calls:
    """Detail calls by cause."""

    messages: int = 0
    proofs: int = 0
    """A sweep found the state that is stored, but it was not final for its second."""
    brought: int = 0
    """A sweep found a newer state than is stored."""

    def __add__(self, other: Calls) -> Calls:
        return Calls(self.messages + other.messages, self.proofs + other.proofs, self.brought + other.brought)


async def run() -> Report:
    """Play both kinds of day in each way."""
    rows: list[Row] = []
    for name, per_line in (("a message per line", True), ("a message per change", False)):
        scenes = play(per_line=per_line)
        rows += _rows(name, scenes)
    return Report("sweeps", SETUP, rows)


def _rows(name: str, scenes: Sequence[Played]) -> Iterator[Row]:
    messages = sum(len(scene.messages) for scene in scenes)

    def row(what: str, calls: int) -> Row:
        return Row(what=f"{name}, {what}", value=calls / messages, unit="", digits=2)

    for how, without in (
        ("fetched at once", Way(math.inf)),
        ("unhurried", Way(math.inf, waits="unhurried")),
        ("once settled", Way(math.inf, waits="settled")),
    ):
        yield row(f"{how}: calls for messages, for each message", calls_of(scenes, without).messages)
        for interval in INTERVALS_SECONDS:
            for rule, quiet in (("each sweep proves all", None), ("after the quiet", QUIET_SECONDS)):
                calls = calls_of(scenes, replace(without, sweep_interval=interval, quiet=quiet))
                what = f"{how}, a sweep every {interval:g} s, {rule}"
                yield row(f"{what}: calls for proofs", calls.proofs)
                yield row(f"{what}: all calls", calls.messages + calls.proofs + calls.brought)
    for quiet in OTHER_QUIETS_SECONDS:
        calls = calls_of(scenes, Way(5.0, quiet))
        yield row(
            f"fetched at once, a sweep every 5 s, a quiet of {quiet:g} s: calls for proofs", calls.proofs
        )


def play(*, per_line: bool) -> list[Played]:
    """The scenes of a day."""
    now = 0.0
    # Noon on the platform: no scene crosses its midnight.
    clock = PlatformClock(datetime(2025, 11, 20, 4, tzinfo=UTC), lambda: now)
    started = int(clock.now().timestamp())
    world = World(WorldSettings(SEED, SELLERS, ORDERS, started), clock)
    day = Day(world, random.Random(SEED))
    quirks = PlatformQuirks(messages_per_line=per_line)
    found: list[Played] = []
    scene_of: dict[int, Played] = {}

    def note(happenings: Sequence[Happening]) -> None:
        for happening in happenings:
            scene = scene_of[happening.draft.tid]
            scene.changed_at.append(now)
            scene.messages += [Sent(now, notice.topic) for notice in notices_of(happening, quirks)]

    begun, steps = 0, CHANGES_PER_SECOND / CHANGES_PER_SCENE
    for tick in range(int(SECONDS / TICK_SECONDS)):
        now = tick * TICK_SECONDS
        while begun < now * steps:
            begun += 1
            happenings = day.begin(now)
            found.append(Played())
            scene_of[happenings[0].draft.tid] = found[-1]
            note(happenings)
        for happenings in day.go_on(now):
            note(happenings)
    return found


def calls_of(scenes: Sequence[Played], way: Way) -> Calls:
    """The calls that the scenes take. The sweeps of their sellers begin at any moment."""
    chance = random.Random(SEED)
    total = Calls()
    for scene in scenes:
        first = 0.0 if math.isinf(way.sweep_interval) else chance.uniform(0, way.sweep_interval)
        total += calls_of_scene(scene, way, first_sweep=scene.changed_at[0] + first)
    return total


ROUNDING: Final = 1e-6

MESSAGE: Final = 0
SWEEP: Final = 1
ASKED: Final = 2


def calls_of_scene(scene: Played, way: Way, *, first_sweep: float) -> Calls:
    """The calls that a scene takes until nothing of it is left to be proven."""
    calls, fetched_at, stored = Calls(), -math.inf, -math.inf
    due: list[tuple[float, int, float]] = [
        (message.at + way.wait(message.topic), MESSAGE, message.at) for message in scene.messages
    ]
    if not math.isinf(way.sweep_interval):
        due.append((first_sweep, SWEEP, 0.0))
    heapify(due)
    last = math.floor(scene.changed_at[-1])
    proven_by = rehint_after = 0.0
    while due:
        now, what, sent_at = heappop(due)
        shown = max((math.floor(at) for at in scene.changed_at if at <= now), default=-math.inf)
        if what == MESSAGE:
            if fetched_at < sent_at:
                calls, fetched_at, stored = calls + Calls(messages=1), now, shown
            continue
        if what == SWEEP:
            proven_by, rehint_after = way.proven_by(now), REHINT_SECONDS
        settled_after = min(shown + 1, proven_by) + DETAIL_LAG_SECONDS
        if stored < shown or fetched_at < settled_after:
            if what == SWEEP:
                heappush(due, (now + HINT_SECONDS, ASKED, 0.0))
                continue
            calls += Calls(proofs=1) if stored == shown else Calls(brought=1)
            fetched_at, stored = now, shown
            if fetched_at < settled_after:
                heappush(due, (now + rehint_after, ASKED, 0.0))
                rehint_after *= 2
                continue
        if due or stored < last or fetched_at < last + 1 + DETAIL_LAG_SECONDS:
            # A sweep waits for what it has asked for, and the next sweep for it.
            number = math.floor((now - first_sweep) / way.sweep_interval + ROUNDING) + 1
            heappush(due, (first_sweep + number * way.sweep_interval, SWEEP, 0.0))
    return calls
