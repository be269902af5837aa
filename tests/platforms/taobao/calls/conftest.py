"""A simulated platform in each form that the platform has had, and the product's client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr

from tests.budget.gates import local_gate
from tests.simulator.platform_client import frozen_clock, small
from topsync.base import retry
from topsync.base.clock import ServerClock
from topsync.platforms.taobao.gateway.client import GatewayConfig, TopClient
from topsync.simulator.director import Wish
from topsync.simulator.faults.answers import EscapedText, OneAsObject
from topsync.simulator.faults.base import Fault
from topsync.simulator.life import TradeType
from topsync.simulator.sellers import SimulatedSeller
from topsync.simulator.server import Simulator
from topsync.simulator.settings import PlatformQuirks
from topsync.simulator.world import Happening


@dataclass(frozen=True)
class Form:
    """How the platform writes."""

    quirks: PlatformQuirks = field(default_factory=PlatformQuirks)
    faults: tuple[Fault, ...] = ()


FORMS: Mapping[str, Form] = {
    "as in 2018": Form(),
    "today, ids as text": Form(PlatformQuirks(business_code=50, ids_as_strings=True)),
    "made from xml": Form(
        PlatformQuirks(refund_ids_as_numbers=True, bare_batch_details=True), (OneAsObject(), EscapedText())
    ),
}


@dataclass
class Platform:
    """A running simulator whose clock stands still, and a client."""

    simulator: Simulator
    client: TopClient
    clock: ServerClock
    """The client's."""

    @property
    def seller(self) -> SimulatedSeller:
        return self.simulator.sellers[0]

    @property
    def session(self) -> SecretStr:
        return SecretStr(self.seller.session)

    def happens(self, event: str, tid: int | None = None, *, line: int | None = None) -> Happening:
        """Make something happen to an order of the first seller; by default to a recent order."""
        return self.simulator.director.grant(self.seller.user_id, Wish(event, tid, line))

    def order(
        self, *events: str, lines: int = 1, type_: TradeType | None = TradeType.FIXED, line: int | None = None
    ) -> int:
        """A new order to which these events have happened, a minute apart."""
        wish = Wish("create", type=type_, min_lines=lines)
        tid = self.simulator.director.grant(self.seller.user_id, wish).draft.tid
        for event in events:
            self.simulator.clock.advance(60)
            self.happens(event, tid, line=line)
        return tid


@asynccontextmanager
async def running(form: Form, **changes: object) -> AsyncIterator[Platform]:
    settings = small(quirks=form.quirks, **changes)
    async with Simulator(settings, frozen_clock(), form.faults) as simulator:
        config = GatewayConfig(
            url=simulator.addresses.gateway_url,
            app_key=settings.app_key,
            app_secret=SecretStr(settings.app_secret),
            retries=retry.Policy(max_attempts=3, first_wait_seconds=0.01, max_wait_seconds=0.02),
        )
        clock = ServerClock()
        async with TopClient(config, clock, local_gate()) as client:
            yield Platform(simulator, client, clock)


@pytest.fixture(params=list(FORMS))
async def platform(request: pytest.FixtureRequest) -> AsyncIterator[Platform]:
    async with running(FORMS[request.param]) as platform:
        yield platform


@pytest.fixture
async def plain() -> AsyncIterator[Platform]:
    async with running(Form()) as platform:
        yield platform
