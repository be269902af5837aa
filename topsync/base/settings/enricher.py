"""The enricher."""

from __future__ import annotations

from pydantic import Field

from topsync.base.settings.fields import EnvironmentSettings, PositiveSeconds, Seconds


class EnricherSettings(EnvironmentSettings):
    """The enricher: `changes` and `snapshots` to `orders`."""

    enricher_group: str = Field(
        "topsync-enricher", min_length=1, description="Kafka consumer group of the enrichers."
    )
    enricher_instance_id: str | None = Field(
        None,
        description="Static membership: a stable name for this instance, e.g. the StatefulSet's pod name.",
    )
    enricher_batch_changes: int = Field(
        200, ge=1, le=5000, description="Changes taken at once from a partition."
    )
    enricher_batch_snapshots: int = Field(
        400, ge=1, le=5000, description="Snapshots taken, and stored, at once from a partition."
    )
    enricher_max_bytes: int = Field(
        64 * 1024**2,
        ge=1024**2,
        description="How many bytes of records may be on their way through an enricher; above it, it reads "
        "nothing more. In memory they take about ten times as much.",
    )
    detail_lag_allowance_seconds: Seconds = Field(
        1, description="How long after a change the platform's detail may still show the older state."
    )
    dead_letter_limit_share: float = Field(
        0.2,
        gt=0,
        le=1,
        description="If a larger share of a partition's last records were to become dead letters, the "
        "enricher stops instead; 1 never stops it.",
    )
    dead_letter_limit_records: int = Field(
        1000, ge=100, le=100_000, description="How many last records of a partition that share refers to."
    )
    dead_letter_limit_least: int = Field(
        50, ge=1, description="Fewer dead letters among them than this never stop the enricher."
    )
    linger: str = Field(
        "",
        description="Which messages wait for others of their order, so that one call answers them all, and "
        "how long: `topic=seconds`, comma-separated, topics without `taobao_trade_`. For other topics the "
        "order is fetched at once. `unhurried` is short for "
        "`TradeCreate=20,TradeAlipayCreate=20,TradeRated=5,TradeMemoModified=5,TradeSuccess=3`. "
        "What that saves and costs: docs/operations.md.",
    )
    backlog_changes: int = Field(
        1000,
        ge=0,
        description="When a partition has this many unread changes, late changes wait so that fresh changes "
        "need not; 0: never.",
    )
    backlog_fresh_seconds: PositiveSeconds = Field(
        10,
        description="Where the writer is behind, a change that has waited longer than this is late.",
    )
    publish_spacing_seconds: Seconds = Field(
        0.01,
        le=1,
        description="Pause between two transactions of a partition; without it each costs 20 ms more.",
    )
    topic_watch_seconds: PositiveSeconds = Field(
        10,
        description="How often an enricher checks whether `orders` and `refunds` have lost records "
        "(docs/operations.md).",
    )
    session_timeout_seconds: PositiveSeconds = Field(
        10, description="An enricher that is silent for this long loses its partitions."
    )
