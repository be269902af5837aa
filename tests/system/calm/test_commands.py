"""Commands that look at a system, and change nothing in it."""

from __future__ import annotations

from datetime import timedelta

import orjson

from schemas import platform_time
from tests.support import systems
from topsync.local.system import System


async def test_where_the_topics_are_as_they_should_be_nothing_is_planned(calm: System) -> None:
    status, output = await calm.try_run("topics", "plan")
    assert (status, output.splitlines()) == (0, ["all topics are as they should be"])


async def test_where_one_key_opens_all_sessions_no_other_key_is_needed(calm: System) -> None:
    status, output = await calm.try_run("sellers", "rekey", "--check")
    assert status == 0, output


async def test_a_replay_that_is_over_is_listed_and_cannot_be_cancelled(calm: System) -> None:
    seller, *_ = await systems.seller_ids(calm)
    end = await systems.platform_now(calm)
    start, last = (platform_time.format(at) for at in (end - timedelta(minutes=1), end))
    span = ("--seller", str(seller), "--from", start, "--to", last)
    await calm.run("replay", *span, "--dry-run", "--id", "a-look")
    listed = [orjson.loads(line) for line in (await calm.run("replay", "list", "--json")).splitlines()]
    assert "a-look" in {job["replay"] for job in listed}
    status, output = await calm.try_run("replay", "cancel", "a-look")
    assert (status, output) == (1, "replay a-look is done already: nothing to cancel\n")


async def test_a_bulk_start_of_an_unknown_seller_is_refused_by_name(calm: System) -> None:
    status, output = await calm.try_run("bootstrap", "--seller", "nobody")
    assert status == 1
    assert output.splitlines()[-1].startswith("topsync bootstrap: not known, paused"), output
    assert "nobody" in output.splitlines()[-1]
