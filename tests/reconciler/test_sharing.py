"""Work is shared evenly, always has one owner at most, and moves only where it must."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import sharing
from reconciler.sharing import Step


@dataclass
class World:
    """Members that look in turn, and what each piece of work is with."""

    work: dict[int, int | None]
    """The owner of each piece of work."""
    members: set[int] = field(default_factory=set)
    moves: dict[int, int] = field(default_factory=dict)
    """How often each piece of work was taken: its epoch."""

    def held(self) -> dict[int, int]:
        owners = list(self.work.values())
        return {member: owners.count(member) for member in self.members}

    def free(self) -> list[int]:
        found = [piece for piece, owner in self.work.items() if owner not in self.members]
        return sorted(found, key=lambda piece: (self.moves.get(piece, 0), piece))

    def look(self, member: int, *, is_calm: bool = False) -> Step:
        held = self.held()
        wanted = sharing.step(member, held, len(self.free()), ages(held), is_calm=is_calm)
        for piece in self.free()[: wanted.take]:
            assert self.work[piece] not in self.members, "it has an owner"
            self.work[piece] = member
            self.moves[piece] = self.moves.get(piece, 0) + 1
        mine = sorted((self.moves[piece], piece) for piece, owner in self.work.items() if owner == member)
        for _, piece in mine[: wanted.give]:
            self.work[piece] = None
        return wanted

    def stop(self, member: int) -> None:
        self.members.discard(member)

    def settle(self, draw_order: st.DataObject, *, is_calm: bool = False) -> None:
        """Looks, until nobody does anything any more."""
        for _ in range(1000):
            order = draw_order.draw(st.permutations(sorted(self.members)))
            steps = [self.look(member, is_calm=is_calm) for member in order]
            if all(step == Step() for step in steps):
                return
        raise AssertionError("it never comes to rest")

    def require_even(self) -> None:
        held = self.held()
        assert sum(held.values()) == len(self.work), "each piece of work has an owner"
        assert max(held.values()) - min(held.values()) <= 1


def ages(members: Iterable[int]) -> dict[int, float]:
    """Members are numbered as they join."""
    return {member: -float(member) for member in members}


def started(pieces: int, members: int, order: st.DataObject) -> World:
    """A world that has come to rest, with its moves forgotten."""
    world = World(dict.fromkeys(range(pieces)), set(range(members)))
    world.settle(order)
    world.require_even()
    world.moves = dict.fromkeys(world.moves, 0)
    return world


many = st.integers(0, 60)
few = st.integers(1, 6)
events_ = st.lists(st.tuples(st.sampled_from(["join", "stop", "add"]), st.integers(0, 5)), max_size=12)


@given(st.dictionaries(few, many, min_size=1), many)
def test_shares_are_even_within_one_and_add_up(held: dict[int, int], free: int) -> None:
    shares = sharing.share_of(held, free, ages(held))
    assert shares.keys() == held.keys()
    assert sum(shares.values()) == sum(held.values()) + free
    assert max(shares.values()) - min(shares.values()) <= 1


@given(st.dictionaries(few, many, min_size=1), many, st.booleans())
def test_no_step_takes_more_than_is_free_or_gives_more_than_is_there(
    held: dict[int, int], free: int, is_calm: bool
) -> None:
    steps = {member: sharing.step(member, held, free, ages(held), is_calm=is_calm) for member in held}
    assert all(0 <= each.give <= held[member] for member, each in steps.items())
    assert all(0 <= each.take <= free and not (each.take and each.give) for each in steps.values())
    assert sum(each.take for each in steps.values()) >= free, "all of it is wanted by somebody"


@given(many, events_, st.data())
def test_whatever_happens_all_work_has_one_owner_and_at_last_an_even_share(
    pieces: int, events: list[tuple[str, int]], data: st.DataObject
) -> None:
    world, names = World(dict.fromkeys(range(pieces)), {0}), count(1)
    for what, number in events:
        if what == "join":
            world.members.add(next(names))
        elif what == "add":
            world.work |= dict.fromkeys(range(len(world.work), len(world.work) + number))
        elif len(world.members) > 1:
            world.stop(sorted(world.members)[number % len(world.members)])
        for member in data.draw(st.lists(st.sampled_from(sorted(world.members)), max_size=4)):
            world.look(member, is_calm=data.draw(st.booleans()))
    world.settle(data)
    assert not world.free(), "what is free is taken even while members come and go"
    world.settle(data, is_calm=True)
    world.require_even()


@given(many, few, st.data())
def test_what_is_at_rest_stays_at_rest(pieces: int, members: int, data: st.DataObject) -> None:
    world = started(pieces, members, data)
    world.settle(data, is_calm=True)
    assert not any(world.moves.values())


@given(many, st.integers(2, 6), st.data())
def test_when_a_process_dies_only_its_work_moves_and_at_once(
    pieces: int, members: int, data: st.DataObject
) -> None:
    world = started(pieces, members, data)
    dead = data.draw(st.integers(0, members - 1))
    its_own = {piece for piece, owner in world.work.items() if owner == dead}
    world.stop(dead)
    for member in data.draw(st.permutations(sorted(world.members))):
        world.look(member)
    assert world.moves == {piece: int(piece in its_own) for piece in world.work}
    world.require_even()


@given(many, few, st.data())
def test_a_newcomer_takes_from_the_others_only_its_share(
    pieces: int, members: int, data: st.DataObject
) -> None:
    world = started(pieces, members, data)
    world.members.add(members)
    world.settle(data)
    assert not any(world.moves.values()), "nothing moves for it until it has been there for a while"
    world.settle(data, is_calm=True)
    world.require_even()
    assert all(moves <= 1 for moves in world.moves.values())
    assert {owner for piece, owner in world.work.items() if world.moves[piece]} <= {members}


@pytest.mark.parametrize("newcomers", [1, 2], ids=["surge of one", "the next newcomer comes early"])
@given(pieces=many, members=few, data=st.data())
def test_a_rolling_restart_moves_each_piece_once_where_newcomers_join_first(
    newcomers: int, pieces: int, members: int, data: st.DataObject
) -> None:
    """Kubernetes starts a new pod, waits until it is ready, and ends an old pod: as in deploy/."""
    world = started(pieces, members, data)
    arriving: Iterator[int] = iter(range(members, 2 * members))
    for old in data.draw(st.permutations(range(members))):
        while len(world.members) < members + newcomers and (newcomer := next(arriving, None)) is not None:
            world.members.add(newcomer)
            for member in data.draw(st.lists(st.sampled_from(sorted(world.members)), max_size=5)):
                world.look(member)
        world.stop(old)
        world.settle(data)
    assert all(moves == 1 for moves in world.moves.values())


@given(pieces=many, members=st.integers(2, 6), data=st.data())
def test_a_rolling_restart_moves_no_piece_more_than_twice_where_newcomers_join_late(
    pieces: int, members: int, data: st.DataObject
) -> None:
    """Where an old process ends before its successor is there, those that stay must take its work."""
    world = started(pieces, members, data)
    for old in range(members):
        world.stop(old)
        world.settle(data)
        world.members.add(members + old)
        world.settle(data)
    world.settle(data, is_calm=True)
    world.require_even()
    assert all(1 <= moves <= 2 for moves in world.moves.values()), world.moves
