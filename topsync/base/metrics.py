"""The catalogue of metrics. Each is a typed object, so that a misspelt name fails the type check.

Labels never hold a seller's nick, an order id or anything of a buyer; they hold a seller's id only where an
alert has to name the seller. Names follow the Prometheus rules (base units, `_total` for counters). A retry
is not an error; an error counts once.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from topsync.model.kind import PARTS, Kind

FRESHNESS_BUCKETS_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 1800)
STAGE_BUCKETS_SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.02,
    0.03,
    0.05,
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    60,
    300,
    1800,
)

API_CALLS = Counter(
    "topsync_api_calls_total",
    "Gateway calls made, by API, priority and outcome.",
    ["api", "priority", "outcome"],
)
CALLS_LEFT_TODAY = Gauge(
    "topsync_calls_left_today",
    "Calls that the daily quota still allows all processes together, by priority; absent without a quota.",
    ["priority"],
)
API_SECONDS = Histogram("topsync_api_seconds", "Time from sending a gateway call to its answer.", ["api"])

PUSH_RECEIVED = Counter("topsync_push_received_total", "Messages received on the message channel.")
PUSH_CONFIRMED = Counter("topsync_push_confirmed_total", "Messages confirmed after Kafka's acknowledgement.")
PUSH_CONNECTIONS = Gauge(
    "topsync_push_connections", "Connections to the message channel, by the state they are in.", ["state"]
)
PUSH_ENDINGS = Counter(
    "topsync_push_endings_total", "Connections and attempts to connect that ended, by cause.", ["cause"]
)
PUSH_UNCONFIRMED_BYTES = Gauge(
    "topsync_push_unconfirmed_bytes",
    "Memory held by messages that are not confirmed yet, by connection; at its bound nothing more is read.",
    ["connection"],
)

POLLED_BEHIND_SECONDS = Gauge(
    "topsync_polled_behind_seconds",
    "The time since the proof of the seller without messages whose proof is oldest: the visibility allowance "
    "and up to a poll interval, while polls work; 0 where none is polled; from each reconciler for its "
    "sellers.",
)
SWEEP_INTERVAL_SECONDS = Gauge(
    "topsync_sweep_interval_seconds",
    "How far sweeps of a seller are apart, from each reconciler for its sellers: the setting, or longer "
    "where the calls do not suffice; 0 without sweeps.",
)
LEASES_HELD = Gauge(
    "topsync_leases_held",
    "Sellers that this reconciler pulls, and duties that it carries out.",
    ["kind"],
)

CHANGES_READ = Counter("topsync_changes_read_total", "Changes read by the enricher, by source.", ["source"])
CHANGES_SKIPPED = Counter("topsync_changes_skipped_total", "Changes that the stored order already answered.")
SNAPSHOTS_READ = Counter("topsync_snapshots_read_total", "Snapshots of the bulk export read by the enricher.")
PUBLISHED = {
    kind: Counter(
        f"topsync_{kind.plural}_published_total",
        f"{kind.capitalize()} versions published to the topic `{kind.plural}`.",
    )
    for kind in Kind
}
"""By kind."""
TOMBSTONES_PUBLISHED = Counter(
    "topsync_tombstones_published_total", "Tombstones of erased orders published to the topic `orders`."
)
ERASED_PASSED_OVER = Counter(
    "topsync_erased_passed_over_total", "Changes and snapshots of erased sellers, which are passed over."
)
TOPIC_LOST = Gauge(
    "topsync_topic_lost",
    "1 where a compacted topic lacks records that the table holds, until they are republished; from the "
    "enricher that owns the first partition.",
    ["topic"],
)
RECORDS_REPUBLISHED = Counter(
    "topsync_records_republished_total", "Records published once more from the table, by topic.", ["topic"]
)
PARTITIONS_OWNED = Gauge("topsync_partitions_owned", "Partitions that this enricher owns.")
WRITER_RESTARTS = Counter(
    "topsync_writer_restarts_total", "Partition writers that failed and took over anew."
)
FRESHNESS = Histogram(
    "topsync_freshness_seconds",
    "From the platform's message to the published order, pushed changes only.",
    buckets=FRESHNESS_BUCKETS_SECONDS,
)
STAGE_SECONDS = Histogram(
    "topsync_freshness_stage_seconds",
    "Where that time goes, by the stage that ends: received by push, in Kafka, taken out of it, fetched, "
    "stored, published.",
    ["stage"],
    buckets=STAGE_BUCKETS_SECONDS,
)
ENRICHER_BYTES = Gauge(
    "topsync_enricher_bytes", "Bytes of records on their way through this enricher, read but not published."
)
DEAD_LETTERS = Counter(
    "topsync_dead_letters_total", "Records set aside as dead letters, by reason.", ["reason"]
)

POSTPONED = {
    kind: Counter(
        f"topsync_{kind.plural}_postponed_total",
        f"{kind.plural.capitalize()} that the platform did not show as promised, to be asked for again "
        "later, by reason.",
        ["reason"],
    )
    for kind in Kind
}
"""By kind."""
REFETCHES_WAITING = Gauge(
    "topsync_refetches_waiting",
    "Orders that wait to be asked for again, by reason; `no_session` and `session_refused` are those parked "
    "until their seller is back. From the reconciler that has this duty.",
    ["reason"],
)

DETAIL_TASKS = Gauge("topsync_detail_tasks", "Tasks of many details for backlogs that are not over.")
DETAIL_TASKS_REQUESTED = Counter("topsync_detail_tasks_requested_total", "Tasks of many details requested.")
ORDERS_BY_TASK = Counter(
    "topsync_orders_by_task_total", "Orders of backlogs that tasks brought and writers were handed."
)

PART_FRESHNESS = {
    kind: Histogram(
        f"topsync_{kind}_freshness_seconds",
        f"From the platform's message to the published {kind}, pushed changes only.",
        buckets=FRESHNESS_BUCKETS_SECONDS,
    )
    for kind in PARTS
}
"""By kind of part."""
REFUSED = {
    kind: Counter(
        f"topsync_{kind.plural}_refused_total",
        f"Refusals of {kind.plural}, by who met them; orders go on.",
        ["by"],
    )
    for kind in PARTS
}
"""By kind of part."""

WINDOWS_PULLED = Counter(
    "topsync_windows_pulled_total",
    "Increment windows pulled, by priority and outcome.",
    ["priority", "outcome"],
)
GAPS_OPEN = Gauge(
    "topsync_gaps_open",
    "Gaps that are not proven closed yet, from each reconciler for its sellers.",
)

ROWS_DELETED = Counter(
    "topsync_rows_deleted_total", "Rows deleted because they were too old, by table.", ["table"]
)
OLDEST_ROW = Gauge(
    "topsync_oldest_row_timestamp_seconds",
    "From when the oldest row is that age would delete, by table, as Unix time; from the reconciler "
    "that deletes.",
    ["table"],
)
RETENTION_BEHIND = Counter(
    "topsync_retention_rounds_behind_total",
    "Rounds in which not all that was too old could be deleted: more comes than goes, or much was left from "
    "before.",
)
CALENDAR_WRONG = Gauge(
    "topsync_calendar_wrong",
    "1 where the file of the sale-day calendar has become wrong, and what it said before stays in force.",
)

CIRCUITS_OPEN = Gauge(
    "topsync_circuits_open",
    "Circuits that are open or half open, because too many calls fail: of the platform, of APIs, of sellers. "
    "From the reconciler that judges them.",
    ["scope"],
)
CIRCUITS_OPENED = Counter(
    "topsync_circuits_opened_total", "Circuits that have opened, also after a failed probe.", ["scope"]
)

SESSION_SECONDS_LEFT = Gauge(
    "topsync_session_left_seconds",
    "Until a seller's session ends, where that is known; negative when it is over. From the leading watch.",
    ["seller_id"],
)
SELLERS = Gauge("topsync_sellers", "Sellers by state.", ["state"])
SESSION_REFRESHES = Counter(
    "topsync_session_refreshes_total", "Attempts to refresh a session, by outcome.", ["outcome"]
)

DIFFERENCES = Counter(
    "topsync_differences_total",
    "Orders and refunds that differed from the platform's, by how, and by outcome: each is `found`, and then "
    "`repaired` or `left`.",
    ["difference", "outcome"],
)
COMPARISON_DAYS_LEFT = Gauge(
    "topsync_comparison_days_left",
    "Days of sellers, by kind, that the last night had no time to compare, or that failed; from the leading "
    "reconciler.",
)
