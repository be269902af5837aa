"""Freshness: how long a pushed change takes from the platform to the topic, and where the time goes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from topsync import metrics


@dataclass(frozen=True, slots=True)
class Journey:
    """When the first pushed hint of an order reached each stage. Platform time, as estimated here."""

    hinted_at: datetime
    """The platform told of the change."""
    received_at: datetime
    """The push service had the message."""
    taken_at: datetime
    """The enricher took the record out of Kafka."""


@dataclass(frozen=True, slots=True)
class Stages:
    """When a batch was through with each stage of the writer; the same clock."""

    fetched_at: datetime
    stored_at: datetime
    published_at: datetime


def observe(journey: Journey, stages: Stages) -> None:
    """Note one order's way. Estimates of two processes may differ by milliseconds: never below zero."""
    moments = (
        ("received", journey.received_at),
        ("taken", journey.taken_at),
        ("fetched", stages.fetched_at),
        ("stored", stages.stored_at),
        ("published", stages.published_at),
    )
    before = journey.hinted_at
    for stage, moment in moments:
        metrics.STAGE_SECONDS.labels(stage).observe(max(0.0, (moment - before).total_seconds()))
        before = moment
    metrics.FRESHNESS.observe(max(0.0, (stages.published_at - journey.hinted_at).total_seconds()))
