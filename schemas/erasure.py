"""A request to erase an order, as it travels in the topic `changes` beside the hints.

Only the owner of an order's partition writes the order, so only it can erase it. It does so where the
order's seller is erased (an operator's `topsync sellers erase`), and then publishes the tombstone; a request
for an order of any other seller means nothing, however late it comes.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from schemas.types import Instant, PlatformId


class Erasure(BaseModel):
    """One order that is to be erased."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, use_attribute_docstrings=True
    )

    seller_id: PlatformId
    """The platform's user id of the seller."""
    tid: PlatformId
    asked_at: Instant
    """When it was asked for, by the clock of the machine on which it was."""
