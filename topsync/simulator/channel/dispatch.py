"""Hands a queue's messages to the connections of its group, in batches."""

from __future__ import annotations

import random as random_module
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from topsync.simulator.channel.client import Client
from topsync.simulator.channel.pushes import PushWriter
from topsync.simulator.channel.queue import MessageQueue
from topsync.simulator.channel.settings import ChannelSettings

BATCH_BYTES: Final = 64 * 1024
"""Pushes to a connection are written together, up to about this many bytes at a time."""

TURN_MESSAGES: Final = 1000
"""After this many pushes of a queue, others have their turn."""


def dispatch(
    queue: MessageQueue,
    connections: Sequence[Client],
    settings: ChannelSettings,
    writer: PushWriter,
    chance: random_module.Random,
    now: datetime,
) -> bool:
    """Give each ready message to a random connection that has room (docs/platform/channel.md 5.5).

    False when the turn ended while there were still messages and room.
    """
    clients = [each for each in connections if has_room(queue, each, settings)]
    batches = {each.number: _Batch(each) for each in clients}
    is_done = False
    for _ in range(TURN_MESSAGES):
        client = _one_of(clients, chance)
        queued = None if client is None else queue.take(now, client.number)
        if client is None or queued is None:
            is_done = True
            break
        zipped = chance.random() < settings.gzip_share
        for turn in range(1 + queued.fate.copies):
            queue.counts.duplicated += turn > 0
            carrier = chance.choice(clients) if turn else client
            if carrier.recipient is not None:
                frame = writer.push(queued, carrier.recipient, sent_at=now, zipped=zipped)
                batches[carrier.number].add(frame)
        if client.allowance is not None:
            client.allowance -= 1
        if not has_room(queue, client, settings):
            clients.remove(client)
    for batch in batches.values():
        batch.write()
    return is_done


def has_room(queue: MessageQueue, client: Client, settings: ChannelSettings) -> bool:
    """Whether a connection may be given one more message."""
    if client.is_full or client.allowance == 0:
        return False
    return queue.carried_by(client.number) < settings.max_in_flight_per_connection


def _one_of(clients: list[Client], chance: random_module.Random) -> Client | None:
    if len(clients) > 1:
        return chance.choice(clients)
    return clients[0] if clients else None


class _Batch:
    """Pushes to one connection that are written together."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._frames: list[bytes] = []
        self._bytes = 0

    def add(self, frame: bytes) -> None:
        self._frames.append(frame)
        self._bytes += len(frame)
        if self._bytes >= BATCH_BYTES:
            self.write()

    def write(self) -> None:
        if self._frames:
            self._client.write(b"".join(self._frames))
            self._frames.clear()
            self._bytes = 0
