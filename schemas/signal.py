"""Signals: requests of others to topsync, as records of the topic `signals`.

Each is answered by a notification, whatever the outcome. A second request with the same id changes nothing if
it asks for the same; otherwise it is refused.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.types import Instant, PlatformId

ReplayId = Annotated[str, Field(pattern="^[A-Za-z0-9._:-]{1,64}$")]

MOST_ORDERS: Final = 10_000
"""In one request: it is one record, and some hundred kilobytes."""


class ReplayRequested(BaseModel):
    """A request to pull a seller's changes of a span again; the answer is `taobao.ops.replay.finished.v1`."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, use_attribute_docstrings=True
    )

    event_type: ClassVar[str] = "taobao.ops.replay.requested.v1"
    """The CloudEvents type."""

    replay: ReplayId
    """The request's id, chosen by the sender, e.g. at random; the outcome names it. It always stands for this
    seller, span and `dry_run`: a request that uses it for others is refused."""
    seller_id: PlatformId
    """The platform's user id of the seller."""
    start: Instant
    """Orders and refunds that were modified from this time on, at most 90 days ago ..."""
    end: Instant
    """... up to and including this time, platform time. If it lies in the future, the replay does not wait
    for it; more than a day in the future is refused."""
    dry_run: bool = False
    """Whether only to report what the replay would find and cost."""

    @model_validator(mode="after")
    def _check_span(self) -> Self:
        if self.start >= self.end:
            raise ValueError("start must be before end")
        return self


class OrdersReplayRequested(BaseModel):
    """A request to fetch orders again; the answer is `taobao.ops.replay.ended.v1`."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, use_attribute_docstrings=True
    )

    event_type: ClassVar[str] = "taobao.ops.replay.orders-requested.v1"
    """The CloudEvents type."""

    replay: ReplayId
    """The request's id, as in `taobao.ops.replay.requested.v1`. It always stands for these orders and
    `dry_run`, in whatever sequence: a request that uses it for others is refused."""
    tids: Annotated[tuple[PlatformId, ...], Field(min_length=1, max_length=MOST_ORDERS)]
    """The orders; for more of them, make several requests."""
    seller_id: PlatformId | None = None
    """The seller of those orders that topsync has not stored. Without it, a request with such an order is
    refused, because nobody knows whose it is."""
    dry_run: bool = False
    """Whether only to report what the replay would find and cost."""


Signal = ReplayRequested | OrdersReplayRequested

SIGNALS: Final[tuple[type[Signal], ...]] = (ReplayRequested, OrdersReplayRequested)
"""All kinds of requests."""
