"""All settings of topsync. They come from the environment and are checked when a process starts.

One class per noun; each process loads the classes it needs. `docs/reference/settings.md` is generated
from here (`topsync settings --markdown`). Secrets come from the environment or, one file per setting
named like the variable, from the folder `TOPSYNC_SECRETS_DIR` (a mounted Kubernetes secret).
"""

from __future__ import annotations

import math
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    Field,
    HttpUrl,
    SecretStr,
    TypeAdapter,
    UrlConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import MultiHostUrl, Url
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableError

from topsync.base import database_address, masking
from topsync.base.errors import OperatorError
from topsync.model.call_limits import CallLimits
from topsync.model.kind import Kind
from topsync.model.visibility import Allowances, ListAllowances, parse_peaks

PREFIX = "TOPSYNC_"

DATABASE_URL = TypeAdapter(
    Annotated[MultiHostUrl, UrlConstraints(allowed_schemes=["postgresql", "postgres"], host_required=True)]
)


BROKER = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:,]+)(:(?P<port>[0-9]{1,5}))?")
MAX_PORT = 65535


def _is_database_url(secret: SecretStr) -> SecretStr:
    DATABASE_URL.validate_python(secret.get_secret_value())
    database_address.check(secret.get_secret_value(), os.environ)
    return secret


SecretUrl = Annotated[SecretStr, AfterValidator(_is_database_url)]
"""A database's address. It holds a password, so it is never shown."""
ChannelUrl = Annotated[Url, UrlConstraints(allowed_schemes=["ws", "wss"])]
Seconds = Annotated[float, Field(ge=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]


class SettingsError(OperatorError):
    """A setting is missing or wrong. The text is one line: the setting, its problem, the fix."""


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True, populate_by_name=True
    )


class PlatformSettings(_Settings):
    """The platform: where it is, and which application we are."""

    app_key: str = Field(min_length=1, description="The application's key on the open platform.")
    app_secret: SecretStr = Field(description="The application's secret; signs every call and connection.")
    gateway_url: HttpUrl = Field(
        HttpUrl("https://gw.api.taobao.com/router/rest"), description="Address of the REST gateway."
    )
    channel_url: ChannelUrl = Field(
        Url("ws://mc.api.taobao.com/"), description="Address of the message channel (`ws` or `wss`)."
    )
    channel_group: str = Field("default", min_length=1, description="Consumer group on the message channel.")
    sign_method: Literal["md5", "hmac", "hmac-sha256"] = Field(
        "hmac-sha256", description="How gateway calls are signed."
    )
    download_hosts: str = Field(
        "download.api.taobao.com", description="Hosts that exports may be downloaded from, comma-separated."
    )
    clock_doubt_seconds: Seconds = Field(
        900,
        description="When the platform's clock jumps, for how long both its times count: nothing is claimed "
        "that only the old or only the new time supports.",
    )
    refunds: bool = Field(
        True,
        description="Whether refunds are kept as well. Switch it off where the application has no right to "
        "them.",
    )
    calls_in_flight: int = Field(32, ge=1, description="Gateway calls that one process has open at most.")

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What is kept; the kind that leads is the first."""
        left_out = () if self.refunds else (Kind.REFUND,)
        return tuple(kind for kind in Kind if kind not in left_out)


class AuthorisationSettings(_Settings):
    """How sellers authorise us, and how their sessions are refreshed."""

    oauth_url: HttpUrl = Field(
        HttpUrl("https://oauth.taobao.com"), description="Where `/authorize` and `/token` are."
    )
    oauth_redirect_url: HttpUrl | None = Field(
        None,
        description="The app's registered callback; only `topsync sellers authorise` needs it.",
    )
    session_refresh_share: float = Field(
        0.25,
        gt=0,
        lt=1,
        description="A session that can be refreshed is refreshed when this share of its life is left.",
    )


class BudgetSettings(_Settings):
    """The call budget that all processes share; each must be given the same."""

    calls_per_second: float = Field(
        20, gt=0, description="Gateway calls a second that all processes together make at most."
    )
    api_limits: str = Field(
        "",
        description="APIs that also have a limit of their own, as `api=calls per second`, comma-separated, "
        "e.g. `taobao.trades.sold.increment.get=5`.",
    )
    calls_per_day: int | None = Field(
        None, ge=1, description="Gateway calls of a platform day (GMT+8), all processes together."
    )
    live_reserve_calls: int = Field(
        0, ge=0, description="How many of a day's last calls are for live changes only."
    )

    @field_validator("api_limits")
    @classmethod
    def _check_api_limits(cls, text: str) -> str:
        parse_api_limits(text)
        return text

    @property
    def limits(self) -> CallLimits:
        """What all processes together may call."""
        return CallLimits(
            calls_per_second=self.calls_per_second,
            api_calls_per_second=parse_api_limits(self.api_limits),
            calls_per_day=self.calls_per_day,
            live_reserve=self.live_reserve_calls,
        )


def parse_api_limits(text: str) -> dict[str, float]:
    """Calls per second by API, from `api=calls,api=calls`.

    Raises:
        ValueError: an entry is not an API's name and a number above 0.
    """
    limits = {}
    for entry in filter(None, (entry.strip() for entry in text.split(","))):
        api, _, number = (part.strip() for part in entry.partition("="))
        try:
            limits[api] = float(number)
        except ValueError:
            raise ValueError("each entry is `api=calls per second`") from None
        if "." not in api or not 0 < limits[api] < math.inf:
            raise ValueError("each entry is `api=calls per second`, above 0")
    return limits


class DatabaseSettings(_Settings):
    """PostgreSQL."""

    database_url: SecretUrl = Field(
        description="The database, e.g. `postgresql://user:password@host:5432/topsync`. Where it names "
        "several hosts, `host1:5432,host2:5432`, the host that takes writes is used. In a file of "
        "`TOPSYNC_SECRETS_DIR` it is read again for each new connection: a changed password needs no restart."
    )
    database_pool_size: int = Field(
        8, ge=2, le=200, description="Connections that one process opens at most."
    )
    database_command_timeout_seconds: PositiveSeconds = Field(
        30, description="A statement that takes longer fails and is tried again."
    )


class KafkaSettings(_Settings):
    """Kafka: cluster and topics."""

    kafka_bootstrap_servers: str = Field(
        validation_alias=AliasChoices("KAFKA_BOOTSTRAP_SERVERS", "kafka_bootstrap_servers"),
        min_length=1,
        description="Brokers to start from, `host:port`, comma-separated.",
    )
    kafka_metadata_age_seconds: float = Field(
        30.0,
        ge=1,
        le=3600,
        description="How old a client's knowledge of the cluster may be: it notices added partitions after "
        "this time at the latest.",
    )
    topic_prefix: str = Field(
        "taobao", pattern=r"^[a-z0-9][a-z0-9_-]*$", description="First part of every topic's name."
    )
    partitions: int = Field(
        12,
        ge=1,
        le=1000,
        description="Partitions of `changes`, `snapshots`, `orders` and `refunds` when they are created.",
    )
    replication_factor: int = Field(3, ge=1, le=7, description="Replicas of each topic when it is created.")
    min_insync_replicas: int | None = Field(
        None,
        ge=1,
        le=7,
        description="Replicas that must have a record before it counts as written. Without this setting: one "
        "less than there are.",
    )
    changes_retention_hours: int = Field(
        168,
        ge=24,
        description="How long `changes` and `snapshots` keep a record: an enricher's longest outage.",
    )
    orders_compaction_lag_hours: int = Field(
        24,
        ge=1,
        description="A reader of `orders` or `refunds` that is no further behind than this sees every "
        "version and tombstone.",
    )
    notices_retention_hours: int = Field(
        2160, ge=24, description="How long dead letters and notifications are kept."
    )

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _are_addresses(cls, servers: str) -> str:
        for server in servers.split(","):
            found = BROKER.fullmatch(server.strip())
            if found is None or not 0 < int(found["port"] or 1) <= MAX_PORT:
                raise ValueError("each entry is `host:port`")
        return servers

    @field_validator("min_insync_replicas")
    @classmethod
    def _can_be_reached(cls, wanted: int | None, others: ValidationInfo) -> int | None:
        if wanted is not None and wanted > others.data.get("replication_factor", wanted):
            raise ValueError("must not be above TOPSYNC_REPLICATION_FACTOR, or nothing could be written")
        return wanted

    @property
    def in_sync_replicas(self) -> int:
        """Replicas that must have a record before it counts as written."""
        return self.min_insync_replicas or max(1, self.replication_factor - 1)


class PushSettings(_Settings):
    """The push service: message channel to `changes`."""

    pull_interval_seconds: float = Field(
        15, ge=1, le=59, description="Time between two pull requests on the channel."
    )
    max_unconfirmed_bytes: int = Field(
        32 * 1024 * 1024,
        ge=65536,
        description="How much may be held between channel and Kafka; beyond it, reading stops.",
    )
    max_frame_bytes: int = Field(
        4 * 1024 * 1024,
        ge=256 * 1024,
        le=16 * 1024 * 1024,
        description="The longest message read from the channel; the platform is known to send a few hundred "
        "bytes, and 200 kB at most. The beginning of a longer message becomes a dead letter; the message is "
        "confirmed if its id can be read.",
    )
    reconnect_initial_seconds: PositiveSeconds = Field(
        3, description="First wait after a lost connection; doubles."
    )
    reconnect_max_seconds: PositiveSeconds = Field(
        60, description="Longest wait between two connection attempts."
    )
    refused_initial_seconds: PositiveSeconds = Field(
        10, description="First wait after the channel refused us."
    )
    kicked_initial_seconds: PositiveSeconds = Field(
        5, description="First wait after the channel sent us away with a Close."
    )
    dead_peer_seconds: float = Field(
        60, ge=6, le=600, description="A channel whose TCP acknowledges nothing for this long is given up."
    )
    silence_seconds: Seconds = Field(
        1800,
        description="A channel that has sent nothing for this long is replaced, and what it may have missed "
        "is pulled; 0 never does.",
    )
    push_connections: int = Field(
        1,
        ge=1,
        le=16,
        description="Connections of one push process; the platform spreads messages over them.",
    )
    channel_token: bool = Field(
        False,
        description="Fetch a token by `taobao.tmc.auth.get` before each connect, and send it as the field "
        "`token`.",
    )
    channel_sdk: str = Field("topsync", description="The name that we send in the connect field `sdk`.")
    channel_minor_group: str | None = Field(
        None, description="Connect field `minor_group` (the official client sends `default`)."
    )
    channel_filter: str | None = Field(
        None, description="Connect field `filter_exp` (the official client sends `*`)."
    )
    channel_out_id: str | None = Field(None, description="Connect field `out_id`.")
    channel_intranet_ip: str | None = Field(
        None, description="Connect field `intranet_ip`: this machine's address, for display in the console."
    )
    push_proof_interval_seconds: PositiveSeconds = Field(
        1, description="How often the connection's last proof of life is written down for the reconciler."
    )


class EnricherSettings(_Settings):
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
        200, ge=1, le=5000, description="Snapshots taken at once from a partition."
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
        "`TradeCreate=20,TradeAlipayCreate=20,TradeRated=5,TradeMemoModified=5`. What that saves and costs: "
        "docs/operations.md.",
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


class CoverageSettings(_Settings):
    """Coverage: what counts as proven complete, and how windows are cut."""

    visibility_allowance_seconds: Seconds = Field(
        600,
        description="How late an order may appear in the platform's lists; younger time is never proven.",
    )
    overlap_seconds: Seconds = Field(600, description="How far before a gap its replay begins.")
    peaks: str = Field(
        "",
        description="Times of sales in which lists lag, `start/end` in the platform's GMT+8, "
        "comma-separated, e.g. `2026-11-11 19:30:00/2026-11-11 22:00:00`.",
    )
    peak_visibility_allowance_seconds: Seconds = Field(
        1800, description="The visibility allowance for what is listed in a peak or reaches back into it."
    )
    peak_overlap_seconds: Seconds = Field(1800, description="The overlap of pulls that touch a peak.")
    window_seconds: int = Field(
        1800, ge=1, le=86400, description="Longest increment window that is asked for at once."
    )
    min_window_seconds: float = Field(
        4,
        ge=1,
        description="A window this short whose orders do not fit one page is paged instead of halved again.",
    )
    too_wide_wait_seconds: Seconds = Field(
        180, description="Wait after the platform found a window too wide, before asking for half of it."
    )
    page_size: int = Field(100, ge=10, le=100, description="Trades per list page.")
    stored_within_seconds: PositiveSeconds = Field(
        300,
        description="A window whose orders are not stored within this time is not proven, and tried again.",
    )

    @field_validator("peaks")
    @classmethod
    def _check_peaks(cls, text: str) -> str:
        parse_peaks(text)
        return text

    @property
    def list_allowances(self) -> ListAllowances:
        """How late lists may be, by the calendar; at peaks never less than at other times."""
        usual = Allowances(
            timedelta(seconds=self.visibility_allowance_seconds), timedelta(seconds=self.overlap_seconds)
        )
        at_peaks = Allowances(
            max(usual.visibility, timedelta(seconds=self.peak_visibility_allowance_seconds)),
            max(usual.overlap, timedelta(seconds=self.peak_overlap_seconds)),
        )
        return ListAllowances(usual, at_peaks, parse_peaks(self.peaks))


class ReconcilerSettings(_Settings):
    """The reconciler: gaps, sweeps, replays."""

    sweep_interval_seconds: Seconds = Field(
        300, description="Time between two sweeps of a seller; 0 switches sweeps off."
    )
    push_lost_after_seconds: PositiveSeconds = Field(
        15, description="A push process that has written no proof for this long counts as lost."
    )
    gap_retry_seconds: PositiveSeconds = Field(
        60, description="Wait after a pull that did not prove a gap, before the gap is pulled again."
    )
    refetch_attempts: int = Field(
        45,
        ge=1,
        description="How often we ask again for an order that the platform does not show as announced. The "
        "waits grow from seconds to ten minutes; then the change is a dead letter. 45 attempts take six "
        "hours.",
    )
    bulk_from_seconds: Seconds = Field(
        1800,
        description="A backlog that would take longer than this by single calls is fetched by tasks of a "
        "hundred orders each, which the platform runs each half hour. A lower value saves calls and takes "
        "longer. 0: never by tasks.",
    )
    bulk_tasks: int = Field(100, ge=1, le=1000, description="Tasks of many orders that run at the same time.")
    bulk_poll_seconds: PositiveSeconds = Field(
        60, description="Time between two looks at tasks of many orders, while none is ready."
    )
    bulk_deadline_seconds: PositiveSeconds = Field(
        6 * 3600, description="A task of many orders that takes longer is given up."
    )
    reconcile_poll_seconds: PositiveSeconds = Field(
        1, description="How often connections, gaps and jobs are looked at."
    )
    reconcile_parallel_sellers: int = Field(
        4, ge=1, le=64, description="Sellers that are pulled at the same time."
    )


class BootstrapSettings(_Settings):
    """The bulk start."""

    export_days: int = Field(
        90, ge=1, le=90, description="Days of orders to export, counted back from yesterday."
    )
    export_poll_seconds: PositiveSeconds = Field(60, description="Time between two looks at an export task.")
    export_deadline_seconds: PositiveSeconds = Field(
        6 * 3600, description="An export that takes longer is reported; the job goes on when it is run again."
    )
    export_max_bytes: int = Field(8 * 1024**3, ge=1024, description="Largest export file that is downloaded.")
    export_max_ratio: float = Field(
        200, gt=1, description="Largest ratio of unpacked to packed size that is accepted."
    )
    bootstrap_parallel_sellers: int = Field(
        4, ge=1, le=64, description="Sellers whose bulk start runs at the same time."
    )
    work_dir: Path = Field(
        Path("/var/lib/topsync"),
        description="Downloaded exports are in its folder `exports`, which other users cannot enter.",
    )

    def export_file(self, seller_id: int) -> Path:
        """Where a seller's export lies, from its download until it is loaded."""
        return self.work_dir / "exports" / f"export-{seller_id}.zip"


class TelemetrySettings(_Settings):
    """Logs, metrics and probes."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level that is logged."
    )
    log_format: Literal["json", "console"] = Field(
        "json", description="`json` for machines, `console` for people."
    )
    telemetry_host: str = Field("127.0.0.1", description="Address that metrics and probes are served on.")
    telemetry_port: int = Field(
        0, ge=0, le=65535, description="Port of `/metrics`, `/livez` and `/readyz`; 0 serves none."
    )


class VaultSettings(_Settings):
    """Encryption of the sellers' session tokens."""

    token_keys: SecretStr = Field(
        description="Fernet keys, comma-separated: the first encrypts, all decrypt (`topsync new-key`). A "
        "new key goes to the end first, and to the front when every process knows it: docs/sellers.md."
    )


class SimulatorAdminSettings(_Settings):
    """The simulator's ground truth; only `topsync audit` and `topsync demo` use it."""

    simulator_admin_url: HttpUrl = Field(
        description="Administrative address of a running `topsync simulate`."
    )


ALL: tuple[type[_Settings], ...] = (
    PlatformSettings,
    AuthorisationSettings,
    BudgetSettings,
    DatabaseSettings,
    KafkaSettings,
    PushSettings,
    EnricherSettings,
    CoverageSettings,
    ReconcilerSettings,
    BootstrapSettings,
    TelemetrySettings,
    VaultSettings,
    SimulatorAdminSettings,
)

AnyClass = type[_Settings]
"""Any of the classes above."""

S = TypeVar("S", bound=_Settings)


def load(cls: type[S]) -> S:
    """Read a class of settings from the environment.

    Raises:
        SettingsError: one line that names the first wrong setting, its problem and the fix.
    """
    try:
        loaded = cls(_secrets_dir=os.environ.get(f"{PREFIX}SECRETS_DIR"))
    except ValidationError as error:
        problem = error.errors(include_input=False)[0]
        raise SettingsError(_explain(cls, str(problem["loc"][0]), problem["msg"])) from None
    except (UnreadableError, OSError) as error:
        # A file in the folder is not text, or may not be read. The error's own text may quote the file.
        cause = error.__cause__ or error
        is_kept_away = isinstance(cause, OSError) and cause.strerror
        what = is_kept_away or "a file in it is not text in UTF-8"
        raise SettingsError(f"{PREFIX}SECRETS_DIR: {what}. See docs/reference/settings.md.") from None
    _hide_secrets(loaded)
    return loaded


def wrong(cls: AnyClass, name: str, problem: str) -> SettingsError:
    """The error for a field that only whoever uses it can find wrong: a line like those of `load`."""
    return SettingsError(_explain(cls, name, f"Value error, {problem}"))


def _hide_secrets(loaded: _Settings) -> None:
    """Keep this process's secrets out of every log line from now on, whoever writes it."""
    for name in type(loaded).model_fields:
        value = getattr(loaded, name)
        if isinstance(value, SecretStr):
            secret = value.get_secret_value()
            for part in (secret, *secret.split(","), unquote(urlsplit(secret).password or "")):
                masking.hide(part)


def variable(cls: type[_Settings], name: str) -> str:
    """The environment variable of a field."""
    alias = cls.model_fields[name].validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return PREFIX + name.upper()


def _explain(cls: type[_Settings], where: str, problem: str) -> str:
    name = next(
        (field for field in cls.model_fields if where.upper() in {field.upper(), variable(cls, field)}), where
    )
    field = cls.model_fields.get(name)
    if field is None:
        return f"{where}: {problem}. See docs/reference/settings.md."
    if field.is_required():
        return f"{variable(cls, name)}: {_PROBLEMS.get(problem, problem)}. Set it: {field.description}"
    return (
        f"{variable(cls, name)}: {problem}. Unset it for the default, {field.default}, or set: "
        f"{field.description}"
    )


_PROBLEMS = {"Field required": "it is not set"}
"""What pydantic calls a problem, and what an operator does."""


def reference_page() -> str:
    """The reference page of all settings, in Markdown."""
    lines = [
        "# Settings",
        "",
        "Generated by `topsync settings --markdown` from `topsync/base/settings.py`; do not edit by hand.",
        "Every setting is an environment variable; secrets may also be files of the same name in the folder",
        "that `TOPSYNC_SECRETS_DIR` names. A wrong value stops a process at its start.",
    ]
    for cls in ALL:
        lines += [
            "",
            f"## {(cls.__doc__ or '').strip().rstrip('.')}",
            "",
            "| variable | default | meaning |",
            "| --- | --- | --- |",
        ]
        for name, field in cls.model_fields.items():
            default = "*required*" if field.is_required() else f"`{field.default}`"
            lines.append(f"| `{variable(cls, name)}` | {default} | {field.description} |")
    return "\n".join(lines) + "\n"
