"""Operators and dead letters: they are found, shown without personal data, retried once, and closed."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from schemas import platform_time
from schemas.change import Change, Source
from tests.deadletters import letterbox
from tests.deadletters.letterbox import RECEIVER, TID
from tests.store.databases import SELLER, at, emptied
from tests.stream.clusters import create_topics, read_all
from tests.support.places import DOCS
from topsync.base.settings import KafkaSettings
from topsync.deadletters import reading, reasons
from topsync.deadletters.reading import DeadLettersError
from topsync.operate import dead_letter_commands
from topsync.operate.dead_letter_commands import DeadLetterRequest
from topsync.operate.dead_letter_desk import Filter
from topsync.store.database import Pool
from topsync.stream import producer as producers
from topsync.stream.records import Record
from topsync.stream.topics import Registry

UNKNOWN_SELLER = 999
EVERYTHING = Filter(dealt_with=True)


async def nobody(_: str) -> str:
    raise AssertionError("no question was expected")


def request(
    names: Sequence[str],
    which: Filter | None,
    *,
    limit: int = 100,
    dry_run: bool = False,
    yes: bool = False,
    answer: str | None = None,
) -> DeadLetterRequest:
    async def ask(question: str) -> str:
        return await nobody(question) if answer is None else answer

    return DeadLetterRequest(names, which or Filter(), limit, dry_run, yes, ask)


@dataclass
class Desk:
    """The servers beside the commands, which take everything from the environment."""

    pool: Pool
    kafka: KafkaSettings
    registry: Registry
    capsys: pytest.CaptureFixture[str]

    @property
    def topic(self) -> str:
        return self.registry.dead_letters.name

    async def put(self, *letters: Record) -> None:
        """Write letters, in transactions as the enricher does: their markers take offsets, too."""
        async with producers.partition_publisher(
            self.kafka, group=self.kafka.topic_prefix, partition=0, spacing_seconds=0
        ) as publisher:
            for letter in letters:
                await publisher.publish([letter], {})

    async def listed(self, which: Filter | None = None, *, limit: int = 50) -> list[dict[str, object]]:
        self.capsys.readouterr()
        await dead_letter_commands.list_letters(which or Filter(), limit=limit, as_json=True)
        return [orjson.loads(line) for line in self.capsys.readouterr().out.splitlines()]

    async def tids(self, which: Filter | None = None, *, limit: int = 50) -> list[object]:
        return [letter["tid"] for letter in await self.listed(which, limit=limit)]

    async def ids(self) -> list[str]:
        return [str(letter["id"]) for letter in await self.listed(EVERYTHING)]

    async def retry(
        self, *names: str, which: Filter | None = None, dry_run: bool = False, answer: str | None = None
    ) -> tuple[int, str]:
        status = await dead_letter_commands.retry(request(names, which, dry_run=dry_run, answer=answer))
        return status, self.capsys.readouterr().out

    async def close(
        self,
        *names: str,
        because: str = "the platform fixed it",
        which: Filter | None = None,
        limit: int = 100,
        dry_run: bool = False,
        yes: bool = False,
        answer: str | None = None,
    ) -> str:
        asked = request(names, which, limit=limit, dry_run=dry_run, yes=yes, answer=answer)
        await dead_letter_commands.close(asked, because)
        return self.capsys.readouterr().out

    async def show(self, name: str) -> str:
        self.capsys.readouterr()
        await dead_letter_commands.show(name, original=False, as_json=False)
        return self.capsys.readouterr().out

    async def marked(self) -> set[str]:
        return {row["event_id"] for row in await self.pool.fetch("select event_id from dead_letter_retries")}

    async def hints(self) -> Sequence[Change]:
        found = await read_all(self.kafka, self.registry.changes.name, 2)
        return [Change.model_validate_json(record.value or b"") for record in found]


@pytest.fixture
async def desk(
    kafka_of_commands: KafkaSettings,
    migrated_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> AsyncIterator[Desk]:
    monkeypatch.setenv("COLUMNS", "250")
    # Small, so that every test reads several pieces.
    monkeypatch.setattr(reading, "CHUNK", 3)
    registry = await create_topics(kafka_of_commands)
    async with emptied(migrated_database_url) as pool:
        yield Desk(pool, kafka_of_commands, registry, capsys)


async def test_the_newest_letters_are_listed_last_up_to_the_limit(desk: Desk) -> None:
    assert await desk.listed() == []
    await desk.put(*(letterbox.refused(TID + n, second=n, topic=desk.topic) for n in range(7)))
    everything = [str(TID + n) for n in range(7)]
    assert await desk.tids() == everything
    assert await desk.tids(limit=3) == everything[-3:]
    first = (await desk.listed())[0]
    assert (first["reason"], first["seller_id"], first["from"]) == (
        "refused",
        str(SELLER),
        "enricher/changes/0/17",
    )


async def test_dead_letters_are_found_by_reason_seller_order_and_time(desk: Desk) -> None:
    await desk.put(
        letterbox.refused(TID, second=0, topic=desk.topic),
        letterbox.unreadable_snapshot(TID + 1, second=60, topic=desk.topic),
        letterbox.refused(TID + 2, UNKNOWN_SELLER, second=120, topic=desk.topic),
    )
    assert await desk.tids(Filter(reason="unreadable_snapshot")) == [str(TID + 1)]
    assert await desk.tids(Filter(seller="demo_one")) == [str(TID), str(TID + 1)]
    assert await desk.tids(Filter(seller=str(UNKNOWN_SELLER))) == [str(TID + 2)]
    assert await desk.tids(Filter(tid=TID)) == [str(TID)]
    ten_o_clock = at(60).replace(tzinfo=None, hour=10)  # GMT+8
    assert await desk.tids(Filter(since=ten_o_clock)) == [str(TID + 1), str(TID + 2)]
    assert await desk.tids(Filter(since=ten_o_clock.replace(year=2100))) == []
    with pytest.raises(DeadLettersError, match="no seller nobody"):
        await desk.listed(Filter(seller="nobody"))


async def test_a_typing_error_in_a_reason_does_not_look_like_an_empty_list(desk: Desk) -> None:
    slip = Filter(reason="refusd")
    meant = "has the reason refusd: did you mean refused"
    with pytest.raises(DeadLettersError, match=meant) as refused:
        await desk.listed(slip)
    assert all(reason in str(refused.value) for reason in reasons.KNOWN)
    with pytest.raises(DeadLettersError, match=meant):
        await desk.retry(which=slip)
    with pytest.raises(DeadLettersError, match=meant):
        await desk.close(which=slip)
    assert await desk.listed(Filter(reason="unstorable")) == []


async def test_reasons_of_another_release_are_accepted_if_a_letter_has_them(desk: Desk) -> None:
    await desk.put(letterbox.refused(TID, topic=desk.topic, reason="of_another_release"))
    assert await desk.tids(Filter(reason="of_another_release")) == [str(TID)]


def test_the_page_explains_every_reason_that_commands_know_and_no_other() -> None:
    page = (DOCS / "operations.md").read_text("utf-8")
    table = page.partition("| reason | what it means | what to do |")[2].partition("\n\n")[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == reasons.KNOWN


async def test_the_content_of_a_letter_is_shown_only_on_request(desk: Desk) -> None:
    """I9. No terminal obeys a text from outside."""
    await desk.put(
        letterbox.unreadable_snapshot(topic=desk.topic), letterbox.unreadable_message(topic=desk.topic)
    )
    await dead_letter_commands.list_letters(Filter(), limit=50, as_json=False)
    snapshot, message = await desk.ids()
    for name in (snapshot, message):
        for as_json in (False, True):
            await dead_letter_commands.show(name, original=False, as_json=as_json)
    shown = desk.capsys.readouterr().out
    assert "unreadable_snapshot" in shown
    assert str(TID) in shown
    assert RECEIVER not in shown
    assert "secret" not in shown

    for name in (snapshot, message):
        await dead_letter_commands.show(name, original=True, as_json=False)
    wished = desk.capsys.readouterr().out
    assert RECEIVER in wished
    assert r"\x1b[2Jsecret" in wished
    assert r"\x00\xff\x1b]0;secret\x07" in wished
    assert "\x1b" not in wished
    await dead_letter_commands.show(message, original=True, as_json=True)
    output = orjson.loads(desk.capsys.readouterr().out)
    assert base64.b64decode(output["original"]) == letterbox.unreadable_message().value


@pytest.mark.parametrize("name", ["0/99", "7/0", "17", "0/1"])
async def test_a_missing_letter_gives_one_line_with_the_next_step(desk: Desk, name: str) -> None:
    """0/1 is the marker of a transaction."""
    await desk.put(letterbox.refused(topic=desk.topic))
    with pytest.raises(DeadLettersError, match="topsync deadletter list"):
        await dead_letter_commands.show(name, original=False, as_json=False)


async def test_a_retried_letter_is_asked_for_once_and_no_longer_open(desk: Desk) -> None:
    await desk.put(
        letterbox.refused(TID, topic=desk.topic), letterbox.unreadable_snapshot(TID + 1, topic=desk.topic)
    )
    names = await desk.ids()
    status, output = await desk.retry(*names, dry_run=True)
    assert (status, await desk.hints()) == (0, [])
    assert "2 of 2 can be tried again" in output
    assert len(await desk.tids()) == 2

    status, output = await desk.retry(*names)
    assert status == 0
    assert {(hint.tid, hint.source, hint.reason) for hint in await desk.hints()} == {
        (TID + n, Source.OPERATOR, f"dead letter {name}") for n, name in enumerate(names)
    }
    assert await desk.tids() == []
    assert [letter["retried_at"] is not None for letter in await desk.listed(EVERYTHING)] == [
        True,
        True,
    ]
    status, output = await desk.retry(*names)
    assert status == 1
    assert "tried again already" in output
    assert len(await desk.hints()) == 2


async def test_a_letter_that_cannot_be_retried_stays_open_and_says_why(desk: Desk) -> None:
    await desk.put(
        letterbox.unreadable_message(topic=desk.topic),
        letterbox.refused(TID, UNKNOWN_SELLER, topic=desk.topic),
        letterbox.refused(TID + 1, topic=desk.topic),
    )
    status, output = await desk.retry(*await desk.ids())
    assert status == 1
    assert f"topsync replay --seller {SELLER}" in output
    assert "its seller is not known" in output
    assert [hint.tid for hint in await desk.hints()] == [TID + 1]
    assert await desk.tids() == [None, str(TID)]


async def test_many_letters_are_retried_only_after_a_confirmation(desk: Desk) -> None:
    count = dead_letter_commands.CONFIRM_ABOVE + 1
    await desk.put(*(letterbox.refused(TID + n, topic=desk.topic) for n in range(count)))
    for which in (Filter(reason="refused"), Filter(seller=str(SELLER))):
        status, output = await desk.retry(which=which, answer="")
        assert (status, await desk.hints()) == (0, [])
        assert "nothing is done" in output
    await desk.retry(which=Filter(reason="refused"), answer="yes\n")
    assert len(await desk.hints()) == count
    none = (await desk.retry(which=Filter(reason="refused")))[1]
    assert "no open dead letters with --reason refused" in none, "the mistake may be in the filters"


@pytest.mark.parametrize(
    ("names", "which", "output"),
    [
        pytest.param((), Filter(), "which letters", id="none named"),
        pytest.param(("0/1",), Filter(reason="refused"), "not both", id="named and described"),
        pytest.param(("x",), Filter(), "partition/offset", id="no id"),
    ],
)
async def test_letters_are_chosen_either_by_id_or_by_filter(
    names: tuple[str, ...], which: Filter, output: str
) -> None:
    with pytest.raises(DeadLettersError, match=output):
        await dead_letter_commands.retry(request(names, which, yes=True))
    with pytest.raises(DeadLettersError, match=output):
        await dead_letter_commands.close(request(names, which, yes=True), "dealt with")


async def test_marks_do_not_live_longer_than_their_letters(desk: Desk) -> None:
    """Their letters are younger than the newer of their marks."""
    await desk.pool.execute(
        """
        insert into dead_letter_retries (event_id, retried_at, closed_at, closed_because) values
            ('retried', now() - interval '1 year', null, null),
            ('closed', null, now() - interval '1 year', 'x'),
            ('both', now() - interval '1 year', now() - interval '1 year', 'x'),
            ('retried recently', now(), now() - interval '1 year', 'x'),
            ('closed recently', now() - interval '1 year', now(), 'x')
        """
    )
    await desk.put(*(letterbox.refused(TID + n, second=n, topic=desk.topic) for n in range(2)))
    retried, closed = await desk.ids()
    await desk.retry(retried)
    of_late = {"retried recently", "closed recently"}
    assert len(await desk.marked() - of_late) == 1
    await desk.pool.execute(
        "update dead_letter_retries set retried_at = now() - interval '1 year' where closed_at is null"
    )
    await desk.close(closed)
    assert len(await desk.marked() - of_late) == 1
    assert await desk.marked() > of_late


async def test_a_closed_letter_is_no_longer_open_and_says_when_and_why(desk: Desk) -> None:
    await desk.put(
        letterbox.unreadable_message(second=0, topic=desk.topic),
        letterbox.refused(TID, second=1, topic=desk.topic),
    )
    closed, still_open = await desk.ids()
    before = await read_all(desk.kafka, desk.topic, 1)
    assert len(before) == 2
    output = await desk.close(closed, because="replayed 10:00 to 10:10")
    assert "closed 1: replayed 10:00 to 10:10" in output
    assert [letter["id"] for letter in await desk.listed()] == [still_open]

    first, second = await desk.listed(EVERYTHING)
    assert first["closed_because"] == "replayed 10:00 to 10:10"
    assert first["retried_at"] is None
    at_utc = datetime.fromisoformat(str(first["closed_at"]))
    assert timedelta() <= datetime.now(UTC) - at_utc < timedelta(minutes=3)
    assert (second["closed_at"], second["closed_because"]) == (None, None)

    line = f"closed {platform_time.format(at_utc)}: replayed 10:00 to 10:10"
    assert line in await desk.show(closed)
    assert "closed" not in await desk.show(still_open)
    await dead_letter_commands.list_letters(EVERYTHING, limit=50, as_json=False)
    assert line in desk.capsys.readouterr().out

    assert await desk.hints() == []
    assert [
        (record.offset, record.headers, record.value) for record in await read_all(desk.kafka, desk.topic, 1)
    ] == [(record.offset, record.headers, record.value) for record in before]


async def test_a_letter_that_is_closed_twice_keeps_the_later_words(desk: Desk) -> None:
    await desk.put(letterbox.unreadable_message(topic=desk.topic))
    (name,) = await desk.ids()
    await desk.close(name, because="first")
    (once,) = await desk.listed(EVERYTHING)
    assert ": first" in await desk.close(name, name, because="second", dry_run=True), (
        "the replaced words are shown"
    )
    await desk.close(name, name, because="second")
    (twice,) = await desk.listed(EVERYTHING)
    assert twice["closed_because"] == "second"
    assert str(twice["closed_at"]) > str(once["closed_at"])


async def test_a_closed_letter_can_be_retried_and_a_retried_letter_closed(desk: Desk) -> None:
    await desk.put(*(letterbox.refused(TID + n, second=n, topic=desk.topic) for n in range(2)))
    closed_first, retried_first = await desk.ids()
    await desk.close(closed_first, because="let it be")
    assert (await desk.retry(closed_first))[0] == 0
    await desk.retry(retried_first)
    assert "before: retried 2" in await desk.close(retried_first, because="let it be")

    assert sorted(hint.tid for hint in await desk.hints()) == [TID, TID + 1]
    assert await desk.tids() == []
    for letter in await desk.listed(EVERYTHING):
        assert letter["retried_at"] is not None
        assert letter["closed_because"] == "let it be"


async def test_only_open_letters_are_closed_by_a_filter(desk: Desk) -> None:
    await desk.put(
        letterbox.unreadable_message(second=0, topic=desk.topic),
        letterbox.refused(TID, second=1, topic=desk.topic),
        letterbox.refused(TID + 1, second=2, topic=desk.topic),
        letterbox.refused(TID + 2, UNKNOWN_SELLER, second=3, topic=desk.topic),
    )
    _, refused, *_ = await desk.ids()
    await desk.close(refused, because="before")
    assert "the newest 1" in await desk.close(which=Filter(reason="refused", seller="demo_one"), limit=1)
    assert await desk.tids() == [None, str(TID + 2)]
    assert (await desk.listed(EVERYTHING))[1]["closed_because"] == "before"
    await desk.close(which=Filter(tid=TID + 2))
    assert await desk.tids() == [None]
    ten_o_clock = at(0).replace(tzinfo=None, hour=10)  # GMT+8
    assert "no open" in await desk.close(which=Filter(since=ten_o_clock.replace(minute=1)))
    await desk.close(which=Filter(since=ten_o_clock))
    assert await desk.tids() == []


async def test_many_letters_are_closed_only_after_a_confirmation(desk: Desk) -> None:
    count = dead_letter_commands.CONFIRM_ABOVE + 1
    await desk.put(*(letterbox.unreadable_message(second=n, topic=desk.topic) for n in range(count)))
    which = Filter(reason="unreadable_message")
    assert f"{count} can be closed" in await desk.close(which=which, dry_run=True)
    assert "nothing is done" in await desk.close(which=which, answer="")
    assert len(await desk.listed()) == count
    await desk.close(which=which, answer="y\n")
    assert await desk.listed() == []
    await desk.close(*await desk.ids(), because="all of them", yes=True)
    assert {letter["closed_because"] for letter in await desk.listed(EVERYTHING)} == {"all of them"}


async def test_the_reason_for_closing_is_one_line_of_plain_characters(desk: Desk) -> None:
    await desk.put(letterbox.unreadable_message(topic=desk.topic))
    (name,) = await desk.ids()
    await desk.close(name, because=" 已处理\u3000见\n工单\t7 \x1b[2J\x00\udcff[red]")
    (letter,) = await desk.listed(EVERYTHING)
    assert letter["closed_because"] == r"已处理 见 工单 7 \x1b[2J\x00\udcff[red]"
    assert r"工单 7 \x1b[2J\x00\udcff[red]" in await desk.show(name)
    longest = "办" * dead_letter_commands.BECAUSE_CHARACTERS
    await desk.close(name, because=longest)
    assert (await desk.listed(EVERYTHING))[0]["closed_because"] == longest
    assert (await desk.show(name)).count("办") == len(longest), "none is cut off"
    await dead_letter_commands.list_letters(EVERYTHING, limit=50, as_json=False)
    assert desk.capsys.readouterr().out.count("办") == len(longest)


@pytest.mark.parametrize(
    "because",
    [
        pytest.param("", id="nothing"),
        pytest.param(" \n\u3000", id="blank"),
        pytest.param("x" * (dead_letter_commands.BECAUSE_CHARACTERS + 1), id="too long"),
    ],
)
async def test_the_reason_for_closing_must_have_a_certain_length(because: str) -> None:
    with pytest.raises(DeadLettersError, match=f"1 to {dead_letter_commands.BECAUSE_CHARACTERS}"):
        await dead_letter_commands.close(request(["0/1"], None, yes=True), because)


async def test_a_letter_that_is_in_the_topic_twice_is_handled_in_one_step(desk: Desk) -> None:
    """A mark belongs to the content of a letter, not to its place: a copied topic may have it twice."""
    letter = letterbox.refused(TID, topic=desk.topic)
    await desk.put(letter, letter)
    await desk.retry(*await desk.ids())
    await desk.close(*await desk.ids())
    assert await desk.listed() == []
    assert len(await desk.marked()) == 1
