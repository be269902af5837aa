"""Freshness: how long a pushed change takes from the platform to the topic, and where the time goes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from topsync.base import metrics

_STAGE_SECONDS: Final = {
    stage: metrics.STAGE_SECONDS.labels(stage)
    for stage in ("received", "in_kafka", "taken", "fetched", "stored", "published")
}
"""Looked up once: each order passes all stages."""


@dataclass(frozen=True, slots=True)
class Journey:
    """When the first pushed hint of an order reached each stage. Platform time, as estimated here."""

    hinted_at: datetime
    """The platform reported the change."""
    received_at: datetime
    """The push service received the message."""
    in_kafka_at: datetime
    """Kafka stored the record, by the broker's clock."""
    taken_at: datetime
    """The enricher took the record out of Kafka."""


@dataclass(frozen=True, slots=True)
class Stages:
    """When a batch had passed each stage of the writer; the same clock."""

    fetched_at: datetime
    stored_at: datetime
    published_at: datetime


def observe(journey: Journey, stages: Stages) -> None:
    """Note the times of an order. Estimates of two processes may differ by milliseconds: never below zero."""
    moments = (
        *(journey.received_at, journey.in_kafka_at, journey.taken_at),
        *(stages.fetched_at, stages.stored_at, stages.published_at),
    )
    before = journey.hinted_at
    for stage_seconds, moment in zip(_STAGE_SECONDS.values(), moments, strict=True):
        stage_seconds.observe(max(0.0, (moment - before).total_seconds()))
        before = moment
    metrics.FRESHNESS.observe(max(0.0, (stages.published_at - journey.hinted_at).total_seconds()))
