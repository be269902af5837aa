"""The platform as a process of topsync gets it: what `topsync/wiring/taobao.py` is for Taobao."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson
import pytest

from tests.platforms.memory.platform import (
    MemoryAuthorisation,
    MemoryClient,
    MemoryDetails,
    MemoryLists,
    MemoryMessages,
    MemorySubscriptions,
    read_grant,
)
from tests.platforms.memory.shop import MemoryShop
from topsync.base import retry
from topsync.base.clock import ServerClock
from topsync.budget.gate import Gate
from topsync.model.kind import Kind
from topsync.platforms.platform_port import Observer
from topsync.platforms.port import ListRules
from topsync.platforms.session_port import GrantReading, GrantUnreadable
from topsync.wiring import platforms

NAME: Final = "memory"


@dataclass(frozen=True, slots=True)
class OpenMemory:
    """See `topsync.platforms.platform_port.OpenPlatform`."""

    client: MemoryClient
    pushes: bool
    created_lists: None = None
    bulk_export: None = None
    detail_tasks: None = None

    @property
    def time(self) -> MemoryClient:
        return self.client

    @property
    def details(self) -> MemoryDetails:
        return MemoryDetails(self.client)

    @property
    def lists(self) -> MemoryLists:
        return MemoryLists(self.client)

    @property
    def subscriptions(self) -> MemorySubscriptions:
        return MemorySubscriptions()

    @property
    def messages(self) -> MemoryMessages | None:
        return MemoryMessages(self.client.shop, self.client.clock) if self.pushes else None


@dataclass(frozen=True, slots=True)
class MemoryPlatform:
    """See `topsync.platforms.platform_port.OrderPlatform`. It needs no settings: it is in the process."""

    shop: MemoryShop
    pushes: bool = True
    server: str = "the platform in memory"
    kinds: frozenset[Kind] = frozenset({Kind.ORDER})
    linger_words: None = None
    pull_apis: frozenset[str] = frozenset()
    trade_types: None = None

    def list_rules(self, kind: Kind) -> ListRules:
        return MemoryLists.RULES

    def read_grant(self, answer: bytes, *, answered_at: datetime) -> GrantReading:
        try:
            return read_grant(orjson.loads(answer), answered_at=answered_at)
        except ValueError:
            return GrantUnreadable("it is no JSON")

    def check_settings(self) -> None:
        """There are none."""

    @asynccontextmanager
    async def authorisation(self) -> AsyncIterator[MemoryAuthorisation]:
        yield MemoryAuthorisation(self.shop)

    @asynccontextmanager
    async def open(
        self,
        clock: ServerClock,
        gate: Gate,
        *,
        observer: Observer,
        retries: retry.Policy | None,
        failure_wait_seconds: Callable[[], float],
    ) -> AsyncIterator[OpenMemory]:
        yield OpenMemory(MemoryClient(self.shop, clock, gate, observer), self.pushes)


def choose(platform: MemoryPlatform, patch: pytest.MonkeyPatch) -> None:
    """Have topsync know this platform, and choose it."""
    patch.setitem(platforms.PLATFORMS, NAME, lambda: platform)
    patch.setenv("TOPSYNC_PLATFORM", NAME)
