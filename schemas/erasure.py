"""A request to erase an order, as a record of the topic `changes`, among the hints.

Only the owner of an order's partition writes the order, so only this owner can erase it. It does so if the
order's seller is erased (by an operator's `topsync sellers erase`), and then publishes the tombstone. A
request for an order of any other seller has no effect, however late it comes.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from schemas.types import Instant, PlatformId


class Erasure(BaseModel):
    """An order to be erased."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, use_attribute_docstrings=True
    )

    seller_id: PlatformId
    """The platform's user id of the seller."""
    tid: PlatformId
    asked_at: Instant
    """When it was requested, by the clock of the requesting machine."""
