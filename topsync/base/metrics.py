"""The catalogue of metrics, from which docs/reference/metrics.md is generated.

Each is a typed object, so that a misspelt name fails the type check, and is made by a section
(`topsync/base/metric_catalogue.py`), which asks for its unit, its meaning, the bound of each label and, where
somebody is to act on it, what to do.

Labels never hold a seller's nick, an order id or anything of a buyer; they hold a seller's id only where an
alert has to name the seller. Names follow the Prometheus rules (base units, `_total` for counters). A retry
is not an error; an error counts once.
"""

from __future__ import annotations

from typing import Final

from topsync.base.metric_catalogue import (
    ONE_OR_NOT,
    Label,
    Section,
    entered,
    reference_page,
    sections,
)
from topsync.model import arrivals
from topsync.model.kind import PARTS, Kind

__all__ = ["entered", "reference_page", "sections"]

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

API: Final = Label("api", "the APIs of the platform that topsync calls", 40)
PRIORITY: Final = Label("priority", "`live`, `gap`, `operator`, `bootstrap`, `sweep`", 5)
KIND_OF_TOPIC: Final = Label("topic", "the compacted topics: `orders`, `refunds`", len(Kind))
TABLE: Final = Label("table", "the tables whose rows go by age", 20)
LETTER_REASON: Final = Label("reason", "the reasons of dead letters (docs/operations.md)", 40)
WAIT_REASON: Final = Label("reason", "why an order is asked for again (docs/operations.md)", 20)

# --- copies ------------------------------------------------------------------------------------------------

_COPIES: Final = Section("How complete the copies are")

SELLERS_NOT_NAMED = _COPIES.gauge(
    "topsync_sellers_not_named",
    "How many sellers a metric by seller does not name, because they are not among the worst.",
    "sellers",
    [Label("metric", "the metrics by seller", 8)],
)
COPIES = _COPIES.measured_gauge(
    "topsync_copies",
    "Sellers whose copies are measured: after their bulk start, and not paused; of the installation.",
    "sellers",
)
COPY_AGE = _COPIES.worst_sellers(
    "topsync_complete_until_age_seconds",
    "Seconds since `complete_until`: everything before it is proven to be here; of the installation.",
    "seconds",
    SELLERS_NOT_NAMED,
    do="Higher than `topsync_complete_until_late_after_seconds`: `topsync coverage --seller` says why.",
)
COPY_LATE_AFTER = _COPIES.measured_gauge(
    "topsync_complete_until_late_after_seconds",
    "How old a copy becomes while everything works, at most: by the visibility allowance and the sweeps that "
    "hold now, sale days included; absent where sweeps are switched off; of the installation.",
    "seconds",
)
HOLES = _COPIES.worst_sellers(
    "topsync_complete_until_holes",
    "Spans of time that are not proven, before time that is; sellers without any are absent; of the "
    "installation.",
    "holes",
    SELLERS_NOT_NAMED,
    do="It does not go down: `topsync coverage --seller` shows them, `topsync gaps` what is being pulled.",
)
LAG_RECORDS = _COPIES.gauge(
    "topsync_lag_records",
    "Records that the enrichers have not processed; of the installation.",
    "records",
    [Label("topic", "`changes`, `snapshots`", 2)],
)
LAG_SECONDS = _COPIES.gauge(
    "topsync_lag_seconds",
    "How long the oldest record has waited that the enrichers have not processed; 0 where none waits; of the "
    "installation.",
    "seconds",
    [Label("topic", "`changes`, `snapshots`", 2)],
    do="Of `changes` it grows while calls are left: too few enrichers, or they are ill.",
)

# --- calls to the platform ---------------------------------------------------------------------------------

_CALLS: Final = Section("Calls to the platform")

API_CALLS = _CALLS.counter(
    "topsync_api_calls_total",
    "Gateway calls made, each attempt by itself.",
    "calls",
    [
        API,
        PRIORITY,
        Label(
            "outcome",
            "`ok`, `transport`, `bad_answer`, `unavailable`, `limited`, `reauthorise`, `dropped`, `refused`, "
            "`clock`",
            9,
        ),
    ],
    do="All outcomes are `transport`: it is our network. `limited` rises: another program uses the app's "
    "calls.",
)
CALLS_LEFT_TODAY = _CALLS.gauge(
    "topsync_calls_left_today",
    "Calls that the daily quota still allows all processes together; absent without a quota. Each process "
    "that calls shows the same.",
    "calls",
    [PRIORITY],
    do="0: nothing more is fetched for this priority until midnight (GMT+8); `topsync budget` says who used "
    "them.",
)
CALLS_USED_TODAY = _CALLS.gauge(
    "topsync_calls_used_today",
    "Calls made on the platform's present day; of the installation.",
    "calls",
    [PRIORITY],
    do="`topsync budget` says for which APIs.",
)
CALLS_PER_SECOND_LIMIT = _CALLS.measured_gauge(
    "topsync_calls_per_second_limit",
    "How many calls a second all processes together may make now, by settings and sale-day calendar; of the "
    "installation.",
    "calls a second",
)
BAN_SECONDS_LEFT = _CALLS.gauge(
    "topsync_ban_left_seconds",
    "Until the platform takes calls again of what it has closed; absent where nothing is closed; of the "
    "installation.",
    "seconds",
    [Label("scope", "`app`, or an API", 41)],
    do="It comes again and again: another program uses the app's calls, or the limit is set too high.",
)
API_SECONDS = _CALLS.histogram(
    "topsync_api_seconds", "Time from sending a gateway call to its answer.", "seconds", [API]
)
CIRCUITS_OPEN = _CALLS.gauge(
    "topsync_circuits_open",
    "Circuits that are open or half open, because too many calls fail; of the installation.",
    "circuits",
    [Label("scope", "`platform`, `api`, `seller`", 3)],
    do="Above 0, pulls are held back until the platform answers again: `topsync status` names them.",
)
CIRCUITS_OPENED = _CALLS.counter(
    "topsync_circuits_opened_total",
    "Circuits that have opened, also after a failed probe.",
    "circuits",
    [Label("scope", "`platform`, `api`, `seller`", 3)],
)

# --- messages ----------------------------------------------------------------------------------------------

_PUSH: Final = Section("Messages (push)")

PUSH_RECEIVED = _PUSH.counter(
    "topsync_push_received_total", "Messages received on the message channel.", "messages"
)
PUSH_CONFIRMED = _PUSH.counter(
    "topsync_push_confirmed_total",
    "Messages confirmed after Kafka's acknowledgement.",
    "messages",
    do="It stands still while the received rise: Kafka does not acknowledge.",
)
PUSH_CONNECTIONS = _PUSH.gauge(
    "topsync_push_connections",
    "Connections to the message channel, by the state they are in.",
    "connections",
    [
        Label(
            "state",
            "`disconnected`, `opening`, `upgraded`, `connecting`, `connected`, `refused`, `leaving`, "
            "`closed`",
            8,
        )
    ],
    do="Fewer than configured are `connected` for longer than a restart takes: no message arrives there.",
)
PUSH_ENDINGS = _PUSH.counter(
    "topsync_push_endings_total",
    "Connections and attempts to connect that ended, by cause.",
    "connections",
    [Label("cause", "the causes (docs/channel.md)", 16)],
    do="`refused` or `foreign_token`: look at app key and secret. `kicked`: another process has the channel.",
)
PUSH_UNCONFIRMED_BYTES = _PUSH.gauge(
    "topsync_push_unconfirmed_bytes",
    "Memory held by messages that are not confirmed yet; at its bound nothing more is read.",
    "bytes",
    [Label("connection", "the numbers of the connections of a push process", 16)],
    do="At its bound: Kafka is too slow or away.",
)

PUSH_NEEDED = _PUSH.measured_gauge(
    "topsync_push_needed",
    "1 where the scheme of any seller has messages, and so push must be connected; of the installation.",
    ONE_OR_NOT,
)

# --- pulls and what they prove -----------------------------------------------------------------------------

_PULLS: Final = Section("Pulls and what they prove")

POLLED_BEHIND_SECONDS = _PULLS.gauge(
    "topsync_polled_behind_seconds",
    "The time since the proof of the seller without messages whose proof is oldest: the visibility allowance "
    "and up to a poll interval, while polls work; 0 where none is polled; from each reconciler for its "
    "sellers.",
    "seconds",
    do="Above the visibility allowance and two poll intervals: sellers without messages are not fresh.",
)
SWEEP_INTERVAL_SECONDS = _PULLS.gauge(
    "topsync_sweep_interval_seconds",
    "How far sweeps of a seller are apart, from each reconciler for its sellers: the setting, or longer "
    "where the calls do not suffice; 0 without sweeps.",
    "seconds",
    do="For hours above `TOPSYNC_SWEEP_INTERVAL_SECONDS`: the calls do not suffice, and every copy is proven "
    "later.",
)
LEASES_HELD = _PULLS.gauge(
    "topsync_leases_held",
    "Sellers that this reconciler pulls, and duties that it carries out.",
    "leases",
    [Label("kind", "`seller`, `duty`", 2)],
    do="For a minute the sum of `seller` is not the number of sellers: is every reconciler healthy?",
)
WINDOWS_PULLED = _PULLS.counter(
    "topsync_windows_pulled_total",
    "Increment windows pulled.",
    "windows",
    [PRIORITY, Label("outcome", "`pulled`", 4)],
)
CHANGES_LISTED = _PULLS.counter(
    "topsync_changes_listed_total",
    "Changes of orders and refunds that a list showed for the first time, of which it is known whether a "
    "list before lacked them.",
    "changes",
)
LATE_ARRIVALS = _PULLS.histogram(
    "topsync_late_arrival_seconds",
    "How late changes appeared in lists at least, of those that a list lacked although they had happened.",
    "seconds",
    buckets=[float(seconds) for seconds in arrivals.BUCKETS[1:]],
)
VISIBILITY_ALLOWANCE = _PULLS.gauge(
    "topsync_visibility_allowance_seconds",
    "The visibility allowance that holds now: the setting's, the calendar's or the learned, whichever is "
    "longest.",
    "seconds",
    do="Above the setting on a day without a sale: lists were late; `topsync status` says since when.",
)
CLAIMS_TAKEN_BACK = _PULLS.counter(
    "topsync_claims_taken_back_total",
    "Sellers whose claims were taken back because lists were later than the visibility allowance.",
    "sellers",
    do="It rises each week: set a longer visibility allowance (docs/operations.md, lists that are late).",
)
GAPS_OPEN = _PULLS.gauge(
    "topsync_gaps_open",
    "Gaps that are not proven closed yet, from each reconciler for its sellers.",
    "gaps",
    do="It stays above 0 for longer than the visibility allowance and some minutes: `topsync gaps`.",
)

# --- enrichers ---------------------------------------------------------------------------------------------

_ENRICHERS: Final = Section("Enrichers")

CHANGES_READ = _ENRICHERS.counter(
    "topsync_changes_read_total",
    "Changes read by the enricher, by who learnt of them.",
    "changes",
    [Label("source", "`push`, `gap`, `operator`, `bootstrap`, `sweep`", 5)],
)
CHANGES_SKIPPED = _ENRICHERS.counter(
    "topsync_changes_skipped_total", "Changes that the stored order already answered.", "changes"
)
SNAPSHOTS_READ = _ENRICHERS.counter(
    "topsync_snapshots_read_total", "Snapshots of the bulk export read by the enricher.", "records"
)
PUBLISHED = {
    kind: _ENRICHERS.counter(
        f"topsync_{kind.plural}_published_total",
        f"{kind.capitalize()} versions published to the topic `{kind.plural}`.",
        "records",
    )
    for kind in Kind
}
"""By kind."""
TOMBSTONES_PUBLISHED = _ENRICHERS.counter(
    "topsync_tombstones_published_total",
    "Tombstones of erased orders published to the topic `orders`.",
    "records",
)
ERASED_PASSED_OVER = _ENRICHERS.counter(
    "topsync_erased_passed_over_total",
    "Changes and snapshots of erased sellers, which are passed over.",
    "records",
)
TOPIC_LOST = _ENRICHERS.gauge(
    "topsync_topic_lost",
    "1 where a compacted topic lacks records that the table holds, until they are republished; from the "
    "enricher that owns the first partition.",
    ONE_OR_NOT,
    [KIND_OF_TOPIC],
    do="`topsync status` says what is lost, and what to run.",
)
RECORDS_REPUBLISHED = _ENRICHERS.counter(
    "topsync_records_republished_total",
    "Records published once more from the table, by topic.",
    "records",
    [KIND_OF_TOPIC],
)
PARTITIONS_OWNED = _ENRICHERS.gauge(
    "topsync_partitions_owned",
    "Partitions that this enricher owns.",
    "partitions",
    do="The sum is below the partitions of `changes` for longer than a rebalance: nobody reads some of them.",
)
WRITER_RESTARTS = _ENRICHERS.counter(
    "topsync_writer_restarts_total",
    "Partition writers that failed and took over anew.",
    "restarts",
    do="It grows without an outage of Kafka or PostgreSQL: the log says what failed.",
)
FRESHNESS = _ENRICHERS.histogram(
    "topsync_freshness_seconds",
    "From the platform's message to the published order, pushed changes only.",
    "seconds",
    buckets=FRESHNESS_BUCKETS_SECONDS,
    do="Higher than usual: `topsync_freshness_stage_seconds` says in which stage.",
)
STAGE_SECONDS = _ENRICHERS.histogram(
    "topsync_freshness_stage_seconds",
    "Where that time goes, by the stage that ends.",
    "seconds",
    [Label("stage", "`received`, `in_kafka`, `taken`, `fetched`, `stored`, `published`", 6)],
    buckets=STAGE_BUCKETS_SECONDS,
)
PART_FRESHNESS = {
    kind: _ENRICHERS.histogram(
        f"topsync_{kind}_freshness_seconds",
        f"From the platform's message to the published {kind}, pushed changes only.",
        "seconds",
        buckets=FRESHNESS_BUCKETS_SECONDS,
    )
    for kind in PARTS
}
"""By kind of part."""
ENRICHER_BYTES = _ENRICHERS.gauge(
    "topsync_enricher_bytes",
    "Bytes of records on their way through this enricher, read but not published.",
    "bytes",
)
REFUSED = {
    kind: _ENRICHERS.counter(
        f"topsync_{kind.plural}_refused_total",
        f"Refusals of {kind.plural}, by who met them; orders go on.",
        "attempts",
        [Label("by", "`enricher`, `pull`", 2)],
        do=f"It grows: the app has no right to {kind.plural} (docs/operations.md).",
    )
    for kind in PARTS
}
"""By kind of part."""

# --- what waits, and what was set aside --------------------------------------------------------------------

_WAITING: Final = Section("What waits, and what was set aside")

DEAD_LETTERS = _WAITING.counter(
    "topsync_dead_letters_total",
    "Records set aside as dead letters, by reason.",
    "records",
    [LETTER_REASON],
    do="`topsync deadletter list` shows them; docs/operations.md explains each reason.",
)
POSTPONED = {
    kind: _WAITING.counter(
        f"topsync_{kind.plural}_postponed_total",
        f"{kind.plural.capitalize()} that the platform did not show as promised, to be asked for again "
        "later, by reason.",
        "attempts",
        [WAIT_REASON],
    )
    for kind in Kind
}
"""By kind."""
REFETCHES_WAITING = _WAITING.gauge(
    "topsync_refetches_waiting",
    "Orders that wait to be asked for again; `no_session` and `session_refused` are those parked until their "
    "seller is back; of the installation.",
    "orders",
    [WAIT_REASON],
    do="It stays high for other reasons than these two: the platform does not show what it announced.",
)
DETAIL_TASKS = _WAITING.gauge(
    "topsync_detail_tasks", "Tasks of many details for backlogs that are not over.", "tasks"
)
DETAIL_TASKS_REQUESTED = _WAITING.counter(
    "topsync_detail_tasks_requested_total", "Tasks of many details requested.", "tasks"
)
ORDERS_BY_TASK = _WAITING.counter(
    "topsync_orders_by_task_total",
    "Orders of backlogs that tasks brought and writers were handed.",
    "orders",
)

# --- sellers -----------------------------------------------------------------------------------------------

_SELLERS: Final = Section("Sellers and their sessions")

SELLERS = _SELLERS.gauge(
    "topsync_sellers",
    "Sellers by state; of the installation.",
    "sellers",
    [Label("state", "`new`, `live`, `paused`, `expired`, `erased`", 5)],
    do="`expired` above 0: `topsync sellers list` says who and why.",
)
SESSION_SECONDS_LEFT = _SELLERS.worst_sellers(
    "topsync_session_left_seconds",
    "Until a seller's session ends that topsync cannot refresh, or has tried to refresh in vain; negative "
    "when it is over; of the installation.",
    "seconds",
    SELLERS_NOT_NAMED,
    worst_is_least=True,
    do="`topsync sellers authorise` before it is 0.",
)
SESSION_REFRESHES = _SELLERS.counter(
    "topsync_session_refreshes_total",
    "Attempts to refresh a session.",
    "attempts",
    [Label("outcome", "`refreshed`, `refused`, `no_answer`", 3)],
    do="`refused`: the seller has to authorise again.",
)

# --- comparison --------------------------------------------------------------------------------------------

_COMPARISON: Final = Section("Comparison with the platform")

DIFFERENCES = _COMPARISON.counter(
    "topsync_differences_total",
    "Orders and refunds that differed from the platform's, by how, and by outcome: each is `found`, and then "
    "`repaired` or `left`.",
    "differences",
    [
        Label("difference", "`missing`, `behind`, `sum`, `unknown`, `unlisted`", 5),
        Label("outcome", "`found`, `repaired`, `left`", 3),
    ],
    do="`topsync report list` and `report show` name them.",
)
COMPARISON_DAYS_LEFT = _COMPARISON.gauge(
    "topsync_comparison_days_left",
    "Days of sellers, by kind, that the last night had no time to compare, or that failed; from the leading "
    "reconciler.",
    "days",
    do="Above 0 in many nights: more hours or more calls for the comparison.",
)

LAST_DIFFERENCES = _COMPARISON.gauge(
    "topsync_last_comparison_differences",
    "What differed in the newest comparison of a night that has ended; of the installation.",
    "differences",
    [
        Label("difference", "`missing`, `behind`, `sum`, `unknown`, `unlisted`", 5),
        Label("outcome", "`repaired`, `left`", 2),
    ],
    do="`left` above 0: `topsync report show` names them. `repaired`: something was lost on the way; find "
    "out what.",
)
COMPARED_AT = _COMPARISON.measured_gauge(
    "topsync_last_comparison_timestamp_seconds",
    "When that comparison ended, as Unix time; of the installation.",
    "seconds",
    do="Two days ago: no night is compared; is `TOPSYNC_COMPARISON_HOURS` empty, or does no reconciler run?",
)
WITNESS_BACKWARDS = _COMPARISON.counter(
    "topsync_witness_backwards_total",
    "Records of a compacted topic that went backwards, as this witness has seen.",
    "steps back",
    [KIND_OF_TOPIC],
    do="Wake somebody: a promise is broken.",
)
WITNESS_FINDINGS = _COMPARISON.gauge(
    "topsync_witness_findings",
    "Steps back that the witness has noted in the database, of all time; of the installation.",
    "steps back",
    [KIND_OF_TOPIC],
    do="Wake somebody: a promise is broken. `topsync audit` names the orders.",
)

# --- anomalies ---------------------------------------------------------------------------------------------

_ANOMALIES: Final = Section("Anomalies")
ANOMALY_KIND: Final = Label("kind", "docs/operations.md names and explains the kinds", 6)

ANOMALY_SIGHTINGS = _ANOMALIES.counter(
    "topsync_anomaly_sightings_total",
    "Codes, fields and types that nobody knows, each time one is seen.",
    "sightings",
    [ANOMALY_KIND],
)
ANOMALIES = _ANOMALIES.gauge(
    "topsync_anomalies",
    "Anomalies that last; from the reconciler that judges them.",
    "anomalies",
    [ANOMALY_KIND],
    do="Above 0: `topsync status` names them, with what to do.",
)
ANOMALIES_NOTIFIED = _ANOMALIES.counter(
    "topsync_anomalies_notified_total",
    "Notifications of anomalies that were published.",
    "records",
    [ANOMALY_KIND],
)

# --- bulk starts -------------------------------------------------------------------------------------------

_BULK: Final = Section("Bulk starts")

BULK_STARTS = _BULK.measured_gauge(
    "topsync_bulk_starts_under_way",
    "Sellers whose bulk start has begun and is not done; of the installation.",
    "sellers",
)
BULK_START_AGE = _BULK.measured_gauge(
    "topsync_bulk_start_age_seconds",
    "How long ago the oldest bulk start under way began; 0 without any; of the installation.",
    "seconds",
    do="More than a day: `topsync bootstrap status` says what it waits for.",
)
BULK_START_SLICES = _BULK.gauge(
    "topsync_bulk_start_slices",
    "Slices of the bulk starts under way, by how far they are; of the installation.",
    "slices",
    [Label("state", "`waiting`, `requested`, `running`, `downloaded`, `loaded`, `stored`", 6)],
)
BULK_DISK_FREE_BYTES = _BULK.measured_gauge(
    "topsync_bulk_start_disk_free_bytes",
    "Room that is left where this bulk start puts exports (`TOPSYNC_WORK_DIR`); absent elsewhere.",
    "bytes",
    do="Less than the largest export (`TOPSYNC_EXPORT_MAX_BYTES`): make room, or load fewer side by side.",
)
BULK_DISK_BYTES = _BULK.measured_gauge(
    "topsync_bulk_start_disk_bytes",
    "How large that file system is.",
    "bytes",
)

# --- processes and storage ---------------------------------------------------------------------------------

_PLATFORM: Final = Section("Processes and storage")

BUILD = _PLATFORM.gauge(
    "topsync_build_info",
    "1 for each process: what it is, and of which release; nothing else.",
    ONE_OR_NOT,
    [
        Label("process", "`push`, `enrich`, `reconcile`, `bootstrap`, `witness`", 1),
        Label("release", "the release of topsync", 1),
        Label("python", "the version of Python", 1),
    ],
    do="Two releases for longer than a rollout takes: the rollout hangs.",
)
DATABASE_AWAY = _PLATFORM.gauge(
    "topsync_database_away",
    "1 while this process cannot reach the database, or the database refuses its statements.",
    ONE_OR_NOT,
    do="All processes say so: the database is away. A single one: its network or its connections.",
)
KAFKA_AWAY = _PLATFORM.measured_gauge(
    "topsync_kafka_away",
    "1 while Kafka does not say how far the enrichers are; of the installation.",
    ONE_OR_NOT,
    do="Look at the brokers. Push holds its messages, and the enrichers wait.",
)
MEASURED_AT = _PLATFORM.measured_gauge(
    "topsync_measured_timestamp_seconds",
    "When everything that is *of the installation* was last measured, as Unix time.",
    "seconds",
    do="Minutes ago, or absent: no reconciler runs, or none reaches the database. Then no alert about copies "
    "can fire.",
)
ROWS_DELETED = _PLATFORM.counter(
    "topsync_rows_deleted_total", "Rows deleted because they were too old, by table.", "rows", [TABLE]
)
OLDEST_ROW = _PLATFORM.gauge(
    "topsync_oldest_row_timestamp_seconds",
    "From when the oldest row is that age would delete, by table, as Unix time; of the installation.",
    "seconds",
    [TABLE],
    do="A day beyond the table's time: nothing is deleted; does a reconciler run?",
)
RETENTION_BEHIND = _PLATFORM.counter(
    "topsync_retention_rounds_behind_total",
    "Rounds in which not all that was too old could be deleted: more comes than goes, or much was left from "
    "before.",
    "rounds",
    do="It rises for days: the database is too slow for what comes.",
)
CALENDAR_WRONG = _PLATFORM.gauge(
    "topsync_calendar_wrong",
    "1 where the file of the sale-day calendar has become wrong, and what it said before stays in force.",
    ONE_OR_NOT,
    do="The log of the process says what is wrong in the file.",
)
SPANS = _PLATFORM.counter(
    "topsync_spans_total",
    "Spans, where traces are on: `recorded`, `sent` to the collector, `lost` because it did not take them; "
    "and slow or failed orders that are `held_back`, beyond `TOPSYNC_TRACES_UNSAMPLED_PER_SECOND`.",
    "spans",
    [Label("outcome", "`recorded`, `sent`, `lost`, `held_back`", 4)],
    do="Lost, or far fewer sent than recorded: look at the collector (docs/traces.md).",
)
