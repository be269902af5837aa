"""A library that logs the same message all the time neither fills the disk nor hides other messages."""

from __future__ import annotations

import logging

from topsync.base import repeats
from topsync.base.repeats import EVERY_SECONDS, Repeats


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def said(message: str, *values: object, logger: str = "aiokafka") -> logging.LogRecord:
    return logging.LogRecord(logger, logging.ERROR, "a file", 1, message, values, None)


def test_a_repeated_message_is_logged_once_in_a_while_with_its_count() -> None:
    clock = Clock()
    filtering = Repeats(clock)
    assert [filtering.filter(said("no node %s", number)) for number in range(5)] == [True, *[False] * 4]

    clock.now += EVERY_SECONDS
    again = said("no node %s", 5)
    assert filtering.filter(again)
    assert again.__dict__["repeated"] == 4

    clock.now += EVERY_SECONDS
    last = said("no node %s", 6)
    assert filtering.filter(last)
    assert "repeated" not in last.__dict__, "nothing was left out in between"


def test_other_messages_other_loggers_and_tracebacks_get_through() -> None:
    filtering = Repeats(Clock())
    failure = said("no node")
    failure.exc_info = (ValueError, ValueError("x"), None)
    for record in (said("no node"), said("no topic"), said("no node", logger="asyncio"), failure, failure):
        assert filtering.filter(record)


def test_the_number_of_remembered_messages_is_bounded() -> None:
    filtering = Repeats(Clock())
    for number in range(3 * repeats.MOST_MESSAGES):
        assert filtering.filter(said(f"message {number}"))
    assert len(filtering._said) <= repeats.MOST_MESSAGES
