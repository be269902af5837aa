"""The witness, put together."""

from __future__ import annotations

from topsync.base import settings
from topsync.base.service import Lifetime
from topsync.base.settings import (
    DatabaseSettings,
)
from topsync.verify.witness import Witness
from topsync.wiring import parts


@parts.with_rights
async def run(lifetime: Lifetime) -> None:
    """The witness: reads `orders` from the start and watches that nothing goes backwards."""
    settings.load(DatabaseSettings)
    kafka, registry = await parts.open_topics()
    async with parts.open_pool() as pool:
        lifetime.set_ready()
        await Witness(kafka, registry, pool).run(lambda: lifetime.stopping)
