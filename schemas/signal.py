"""Signals: what others ask of topsync, by a record in the topic `signals`.

Each is answered by a notification, whatever comes of it. Asking again with the same id for the same changes
nothing; for something else, it is refused.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.types import Instant, PlatformId


class ReplayRequested(BaseModel):
    """A seller's changes of a span are to be pulled again: the answer is `taobao.ops.replay.finished.v1`."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, use_attribute_docstrings=True
    )

    event_type: ClassVar[str] = "taobao.ops.replay.requested.v1"
    """The CloudEvents type."""

    replay: Annotated[str, Field(pattern="^[A-Za-z0-9._:-]{1,64}$")]
    """The request's id, chosen by whoever asks, e.g. a random one; the outcome names it. It stands for this
    seller, span and `dry_run` for good: a request that uses it for another is refused."""
    seller_id: PlatformId
    """The platform's user id of the seller."""
    start: Instant
    """Orders and refunds that were modified from then on, at most 90 days ago ..."""
    end: Instant
    """... up to and including then, platform time. What is still to come is not waited for; more than a day
    of it is refused."""
    dry_run: bool = False
    """Whether to say only what it would find, and what it would cost."""

    @model_validator(mode="after")
    def _check_span(self) -> Self:
        if self.start >= self.end:
            raise ValueError("start must be before end")
        return self
