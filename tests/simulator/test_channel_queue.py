from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from topsync.simulator.channel.queue import MessageQueue, OutboundMessage, Queued, QueueRules

START = datetime(2025, 11, 11, tzinfo=UTC)
RULES = QueueRules(
    confirm_timeout=timedelta(seconds=60),
    redelivery_delay=timedelta(seconds=360),
    retention=timedelta(hours=24),
    window=1,
    max_messages=1000,
    new_id_on_redelivery=False,
)


def _queue(rules: QueueRules = RULES, seed: int = 1) -> MessageQueue:
    return MessageQueue(rules, random.Random(seed), itertools.count(1).__next__)


def _message(number: int, at: datetime = START) -> OutboundMessage:
    return OutboundMessage(1, "nick", "topic", "{}", at, str(number))


def _publish(queue: MessageQueue, count: int) -> None:
    for number in range(count):
        queue.publish(_message(number), START)


def _drain(queue: MessageQueue, now: datetime = START) -> list[Queued]:
    return list(iter(lambda: queue.take(now, 1), None))


def test_a_window_of_one_keeps_the_order_and_a_wider_window_only_roughly() -> None:
    in_order, mixed = _queue(), _queue(replace(RULES, window=8))
    for queue in (in_order, mixed):
        _publish(queue, 100)
    assert [each.message.data_id for each in _drain(in_order)] == [str(number) for number in range(100)]
    order = [int(each.message.data_id) for each in _drain(mixed)]
    assert sorted(order) == list(range(100))
    assert order != sorted(order)
    assert all(number < position + 8 for position, number in enumerate(order))


def test_an_unconfirmed_message_comes_again_after_timeout_and_delay_and_no_sooner() -> None:
    queue = _queue()
    _publish(queue, 1)
    queue.take(START, 1)
    due = START + RULES.confirm_timeout + RULES.redelivery_delay
    for now in (START + timedelta(seconds=61), due - timedelta(seconds=1)):
        queue.advance(now)
        assert queue.take(now, 1) is None
    queue.advance(due)
    again = queue.take(due, 1)
    assert again is not None
    assert (again.id, again.retried) == (1, 1)


def test_a_redelivery_changes_the_id_where_a_switch_says_so() -> None:
    queue = _queue(replace(RULES, new_id_on_redelivery=True))
    _publish(queue, 1)
    queue.take(START, 1)
    queue.fail(1, START)
    queue.advance(START + RULES.redelivery_delay)
    again = queue.take(START + RULES.redelivery_delay, 1)
    assert again is not None
    assert (again.id, queue.confirm(1), queue.confirm(2)) == (2, False, True)


def test_a_confirm_wins_over_an_earlier_failure_and_over_a_timeout() -> None:
    queue = _queue()
    _publish(queue, 2)
    _drain(queue)
    queue.fail(1, START)
    queue.advance(START + RULES.confirm_timeout)
    assert [queue.confirm(1), queue.confirm(2), queue.confirm(2)] == [True, True, False]
    queue.advance(START + timedelta(hours=1))
    assert _drain(queue, START + timedelta(hours=1)) == []


def test_a_message_is_gone_after_a_day_wherever_it_is() -> None:
    queue = _queue()
    _publish(queue, 3)
    queue.take(START, 1)
    queue.take(START, 1)
    queue.fail(2, START)
    queue.advance(START + RULES.retention)
    assert (queue.counts.expired, queue.pending, queue.in_flight) == (3, 0, 0)
    assert _drain(queue, START + RULES.retention) == []


def test_each_message_is_gone_at_its_own_time_though_nothing_else_happens() -> None:
    queue = _queue()
    for hour in range(3):
        queue.publish(_message(hour, START + timedelta(hours=hour)), START)
    for hour in range(3):
        queue.advance(START + RULES.retention + timedelta(hours=hour) - timedelta(seconds=1))
        assert queue.counts.expired == hour
        queue.advance(START + RULES.retention + timedelta(hours=hour))
        assert queue.counts.expired == hour + 1


def test_failures_and_timeouts_have_delays_of_their_own() -> None:
    queue = _queue(replace(RULES, failed_delay=timedelta(seconds=10)))
    _publish(queue, 2)
    _drain(queue)
    queue.advance(START + RULES.confirm_timeout)  # without an answer, both wait for the long delay
    queue.fail(1, START)
    assert queue.counts.failed == 0
    _publish(queue, 1)
    queue.take(START, 1)
    queue.fail(3, START + RULES.confirm_timeout)
    queue.advance(soon := START + RULES.confirm_timeout + timedelta(seconds=10))
    assert [each.message.data_id for each in _drain(queue, soon)] == ["0"]
    queue.advance(later := START + RULES.confirm_timeout + RULES.redelivery_delay)
    assert len(_drain(queue, later)) == 2


def test_the_last_redelivery_that_fails_is_the_end() -> None:
    queue = _queue(replace(RULES, max_redeliveries=1))
    _publish(queue, 1)
    now = START
    for _ in range(2):
        assert queue.take(now, 1) is not None
        queue.fail(1, now)
        now += RULES.redelivery_delay
        queue.advance(now)
    assert (queue.take(now, 1), queue.counts.exhausted, queue.pending) == (None, 1, 0)


def test_a_queue_nobody_reads_does_not_grow() -> None:
    queue = _queue(replace(RULES, max_messages=10))
    for hour in range(24 * 20):
        now = START + timedelta(hours=hour)
        queue.publish(_message(hour, now), now)
        queue.advance(now)
        assert len(queue._backlog) <= 10
    assert queue.counts.overflowed > 0
    assert queue.counts.expired > 0


def test_flow_control_counts_what_a_connection_carries() -> None:
    queue = _queue()
    _publish(queue, 4)
    _drain(queue)
    queue.confirm(1)
    queue.fail(2, START)
    assert queue.carried_by(1) == 2
    queue.advance(START + RULES.confirm_timeout)
    assert queue.carried_by(1) == 0
    queue.forget_carrier(1)
    queue.confirm(3)
    assert queue.carried_by(1) == 0


def test_losing_the_unconfirmed_takes_what_was_sent_and_spares_what_was_not() -> None:
    queue = _queue()
    _publish(queue, 4)
    for _ in range(2):
        queue.take(START, 1)
    queue.fail(1, START)
    queue.lose_unconfirmed()
    assert [each.message.data_id for each in _drain(queue)] == ["2", "3"]
    assert queue.counts.lost == 2


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens, each message is counted exactly once, and no finished message comes again."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        rules = replace(RULES, window=3, max_messages=20, retention=timedelta(hours=1), max_redeliveries=2)
        self.queue = _queue(replace(rules, failed_delay=timedelta(seconds=90)))
        self.sent: list[int] = []
        self.over: set[int] = set()
        self.carriers = [1, 2]

    @rule(count=st.integers(1, 8))
    def publish(self, count: int) -> None:
        for _ in range(count):
            self.queue.publish(_message(0, self.now), self.now)

    @rule(which=st.integers(0, 1), count=st.integers(1, 5))
    def take(self, which: int, count: int) -> None:
        for _ in range(count):
            queued = self.queue.take(self.now, self.carriers[which])
            if queued is not None:
                assert queued.id not in self.over
                self.sent.append(queued.id)

    @rule(choose=st.randoms(use_true_random=False))
    def confirm(self, choose: random.Random) -> None:
        if self.sent:
            message_id = choose.choice(self.sent)
            self.queue.confirm(message_id)
            self.over.add(message_id)

    @rule(choose=st.randoms(use_true_random=False))
    def fail(self, choose: random.Random) -> None:
        if self.sent:
            self.queue.fail(choose.choice(self.sent), self.now)

    @rule(seconds=st.sampled_from([0, 1, 59, 61, 360, 1800, 3600]))
    def pass_time(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.queue.advance(self.now)

    @rule(call=st.sampled_from([MessageQueue.lose, MessageQueue.lose_unconfirmed]))
    def lose(self, call: Callable[[MessageQueue], None]) -> None:
        call(self.queue)

    @rule(which=st.integers(0, 1))
    def lose_connection(self, which: int) -> None:
        self.queue.forget_carrier(self.carriers[which])
        self.carriers[which] = max(self.carriers) + 1

    @invariant()
    def accounts_balance(self) -> None:
        counts = self.queue.counts
        over = counts.confirmed + counts.lost + counts.expired + counts.exhausted + counts.overflowed
        assert counts.published == over + self.queue.pending + self.queue.in_flight
        carried = [self.queue.carried_by(carrier) for carrier in self.carriers]
        assert sum(carried) <= self.queue.in_flight
        assert min(carried) >= 0


TestAnyHistory = AnyHistory.TestCase
