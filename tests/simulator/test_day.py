"""An ordinary day: real pace within a scene, all ages of orders at once, and the messages of each change."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.simulator.platform_client import make_world
from topsync.simulator import day
from topsync.simulator.day import CHANGES_PER_SCENE, SCENES, Day
from topsync.simulator.life import EventKind
from topsync.simulator.settings import PlatformQuirks
from topsync.simulator.topics import notices_of
from topsync.simulator.world import Happening

SCENES_PLAYED = 3000


@pytest.fixture(scope="module")
def played() -> list[Happening]:
    """What happens while the scenes begin, ten a second."""
    found: list[Happening] = []
    world = make_world(orders=1500, sellers=2)
    scenes = Day(world, random.Random(1))
    for number in range(SCENES_PLAYED):
        now = number / 10
        found += scenes.begin(now)
        for happenings in scenes.go_on(now):
            found += happenings
    return found


def test_every_kind_of_change_is_played_as_often_as_the_scenes_say(played: list[Happening]) -> None:
    counts = Counter(happening.event.kind for happening in played)
    expected = Counter[EventKind]()
    for scene in SCENES:
        for act in scene.acts:
            expected[act.kind] += scene.times
    scenes = sum(scene.times for scene in SCENES)
    for kind, times in expected.items():
        share = times / scenes * SCENES_PLAYED
        assert counts[kind] == pytest.approx(share, rel=0.3, abs=30), kind
    assert len(played) == pytest.approx(SCENES_PLAYED * CHANGES_PER_SCENE, rel=0.1)


def test_a_scene_keeps_its_pace(played: list[Happening]) -> None:
    world = make_world(orders=0)
    scenes = Day(world, random.Random(2))
    scene = next(scene for scene in SCENES if scene.name == "bought and paid")
    scenes._open(scene, 100.0)
    first, last = scene.acts[1].after_seconds
    assert list(scenes.go_on(100.0 + first - 0.1)) == []
    ((paid,),) = scenes.go_on(100.0 + last)
    assert paid.event.kind is EventKind.PAY


def test_every_readiness_that_a_scene_needs_is_found(played: list[Happening]) -> None:
    found = {day.readiness(happening.state) for happening in played}
    assert {scene.ready for scene in SCENES if scene.ready} <= found


@pytest.mark.parametrize(
    ("per_line", "messages"), [pytest.param(False, 2, id="once"), pytest.param(True, 6, id="for each line")]
)
def test_a_change_of_a_whole_order_may_send_a_message_for_each_line(per_line: bool, messages: int) -> None:
    quirks = PlatformQuirks(messages_per_line=per_line)
    world = make_world(orders=0)
    created = world.create(world.books[0].seller, min_lines=3)
    while len(created.draft.lines) != 3:
        created = world.create(world.books[0].seller, min_lines=3)
    notices = notices_of(created, quirks)
    assert len(notices) == messages
    assert len({notice.content["oid"] for notice in notices}) == (3 if per_line else 1)
