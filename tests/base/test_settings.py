"""Settings: the page is true, a mistake is one line that says what to do, a secret is never shown."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.places import DOCS
from topsync.base import settings
from topsync.base.settings import (
    AnomalySettings,
    BootstrapSettings,
    CoverageSettings,
    DatabaseSettings,
    EnricherSettings,
    KafkaSettings,
    PushSettings,
    RetentionSettings,
    SettingsError,
    TaobaoSettings,
    TelemetrySettings,
    VaultSettings,
)
from topsync.model import linger
from topsync.model.anomaly import AnomalyKind
from topsync.model.retention import Period
from topsync.platforms.taobao.linger import WORDS
from topsync.wiring import parts, platforms

PAGE = DOCS / "reference" / "settings.md"
SECRET = "very-secret-value-0001"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of this machine must not decide a test."""
    for cls in settings.ALL:
        for name in cls.model_fields:
            monkeypatch.delenv(settings.variable(cls, name), raising=False)
    monkeypatch.delenv("TOPSYNC_SECRETS_DIR", raising=False)


def refusal(
    cls: type[TaobaoSettings | DatabaseSettings | KafkaSettings | CoverageSettings | EnricherSettings],
) -> str:
    with pytest.raises(SettingsError) as refused:
        settings.load(cls)
    expected = str(refused.value)
    assert "\n" not in expected
    return expected


def test_the_committed_reference_page_is_the_generated_one() -> None:
    """`python -m topsync settings --markdown > docs/reference/settings.md` writes it."""
    assert PAGE.read_text("utf-8") == settings.reference_page()


def test_every_setting_is_on_the_page_with_its_meaning() -> None:
    page = settings.reference_page()
    for cls in settings.ALL:
        for name, field in cls.model_fields.items():
            assert f"| `{settings.variable(cls, name)}` |" in page
            assert field.description
            assert field.description in page
            assert "|" not in field.description


def test_no_two_settings_share_a_variable() -> None:
    variables = [settings.variable(cls, name) for cls in settings.ALL for name in cls.model_fields]
    assert len(variables) == len(set(variables))


def test_names_with_a_unit_say_it_at_their_end() -> None:
    for cls in settings.ALL:
        for name in cls.model_fields:
            assert not any(unit in name for unit in ("_secs", "_sec_", "_ms", "_mb", "_kb", "_minutes"))


def test_a_missing_setting_is_named_with_its_meaning() -> None:
    expected = refusal(DatabaseSettings)
    assert expected.startswith("TOPSYNC_DATABASE_URL: it is not set.")
    assert "postgresql://" in expected


def test_errors_name_the_kafka_setting_by_its_well_known_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert refusal(KafkaSettings).startswith("KAFKA_BOOTSTRAP_SERVERS: it is not set.")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "broker:9092")
    assert settings.load(KafkaSettings).kafka_bootstrap_servers == "broker:9092"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        (
            "TOPSYNC_WINDOW_SECONDS",
            "90000",
            "TOPSYNC_WINDOW_SECONDS: Input should be less than or equal to 86400",
        ),
        ("TOPSYNC_WINDOW_SECONDS", "soon", "TOPSYNC_WINDOW_SECONDS: "),
        ("TOPSYNC_WINDOW_SECONDS", "1.5", "TOPSYNC_WINDOW_SECONDS: "),
        ("TOPSYNC_PAGE_SIZE", "101", "TOPSYNC_PAGE_SIZE: Input should be less than or equal to 100"),
        ("TOPSYNC_PAGE_SIZE", "3", "TOPSYNC_PAGE_SIZE: Input should be greater than or equal to 10"),
        (
            "TOPSYNC_OVERLAP_SECONDS",
            "-1",
            "TOPSYNC_OVERLAP_SECONDS: Input should be greater than or equal to 0",
        ),
    ],
)
def test_a_wrong_value_is_one_line_with_the_setting_its_problem_and_the_way_out(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(variable, value)
    line = refusal(CoverageSettings)
    assert line.startswith(expected)
    assert "Unset it for the default" in line


@pytest.mark.parametrize(
    ("cls", "environment"),
    [
        (DatabaseSettings, {"TOPSYNC_DATABASE_URL": f"mysql://user:{SECRET}@host/db"}),
        (DatabaseSettings, {"TOPSYNC_DATABASE_URL": f"postgresql://user:{SECRET}@"}),
        (DatabaseSettings, {"TOPSYNC_DATABASE_URL": SECRET}),
        (TaobaoSettings, {"TOPSYNC_APP_KEY": "", "TOPSYNC_APP_SECRET": SECRET}),
    ],
)
def test_no_refusal_shows_a_secret(
    monkeypatch: pytest.MonkeyPatch,
    cls: type[DatabaseSettings | TaobaoSettings],
    environment: dict[str, str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        settings.load(cls)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__, "a trace would show what pydantic was given"


def test_secrets_are_not_shown_by_the_settings_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPSYNC_APP_KEY", "99000001")
    monkeypatch.setenv("TOPSYNC_APP_SECRET", SECRET)
    monkeypatch.setenv("TOPSYNC_TOKEN_KEYS", SECRET)
    for loaded in (settings.load(TaobaoSettings), settings.load(VaultSettings)):
        assert SECRET not in repr(loaded)
        assert SECRET not in str(loaded)


def test_a_secret_may_be_a_file_in_the_folder_of_secrets_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "TOPSYNC_APP_SECRET").write_text(SECRET)
    monkeypatch.setenv("TOPSYNC_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("TOPSYNC_APP_KEY", "99000001")
    assert settings.load(TaobaoSettings).app_secret.get_secret_value() == SECRET
    monkeypatch.setenv("TOPSYNC_APP_SECRET", "other")
    assert settings.load(TaobaoSettings).app_secret.get_secret_value() == "other"


def test_everything_that_has_a_default_loads_with_it() -> None:
    for cls in (PushSettings, CoverageSettings, BootstrapSettings, TelemetrySettings):
        loaded = settings.load(cls)
        for name, field in cls.model_fields.items():
            assert getattr(loaded, name) == field.default


def test_settings_cannot_be_changed_once_they_are_loaded() -> None:
    loaded = settings.load(CoverageSettings)
    with pytest.raises(ValueError, match="frozen"):
        loaded.page_size = 10  # type: ignore[misc]


def test_replicas_that_cannot_be_there_are_refused_as_nothing_could_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")
    assert settings.load(KafkaSettings).in_sync_replicas == 2
    monkeypatch.setenv("TOPSYNC_REPLICATION_FACTOR", "1")
    assert settings.load(KafkaSettings).in_sync_replicas == 1
    monkeypatch.setenv("TOPSYNC_MIN_INSYNC_REPLICAS", "2")
    assert "TOPSYNC_MIN_INSYNC_REPLICAS: " in refusal(KafkaSettings)


def test_an_unknown_platform_is_refused_with_the_known_platforms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOPSYNC_PLATFORM", "taoabo")
    with pytest.raises(SettingsError) as refused:
        platforms.chosen()
    line = str(refused.value)
    assert line.startswith("TOPSYNC_PLATFORM: Value error, no platform is called 'taoabo'; known: taobao.")
    assert "Unset it for the default, taobao, or set: " in line


def test_the_waits_of_messages_are_checked_when_a_process_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not parts.linger_times(platforms.chosen())
    monkeypatch.setenv("TOPSYNC_LINGER", "TradeRated=5")
    assert parts.linger_times(platforms.chosen()) == {"taobao_trade_TradeRated": timedelta(seconds=5)}
    monkeypatch.setenv("TOPSYNC_LINGER", "TradeRatet=5")
    with pytest.raises(SettingsError) as refused:
        parts.linger_times(platforms.chosen())
    line = str(refused.value)
    assert line.startswith("TOPSYNC_LINGER: Value error, no message about orders is called 'TradeRatet'; ")
    assert "Unset it for the default, " in line
    assert "\n" not in line


def test_the_page_says_which_waits_the_word_unhurried_stands_for() -> None:
    waits = ",".join(f"{name}={seconds:g}" for name, seconds in WORDS.unhurried_seconds.items())
    assert f"`{linger.UNHURRIED}` is short for `{waits}`" in settings.reference_page()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            "sslmode=verify-full&sslrootcert=/nowhere/ca.pem",
            "sslrootcert: /nowhere/ca.pem cannot be read",
        ),
        ("sslcert=/nowhere/own.pem", "sslcert: /nowhere/own.pem cannot be read: No such file"),
        ("sslkey=/nowhere/own.key", "sslkey: /nowhere/own.key"),
        ("sslcrl=/nowhere/crl.pem", "sslcrl: /nowhere/crl.pem"),
        ("sslmode=verify-ca", "sslmode=verify-ca needs sslrootcert="),
        ("sslmode=always", "sslmode must be one of disable, "),
    ],
)
def test_a_missing_certificate_is_a_wrong_setting_and_no_outage(
    monkeypatch: pytest.MonkeyPatch, query: str, expected: str
) -> None:
    monkeypatch.setenv("TOPSYNC_DATABASE_URL", f"postgresql://user:secret-word@host/x?{query}")
    assert expected in (line := refusal(DatabaseSettings))
    assert line.startswith("TOPSYNC_DATABASE_URL: ")
    assert "secret-word" not in line


def test_a_certificate_that_the_environment_names_is_checked_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOPSYNC_DATABASE_URL", "postgresql://user@host/x?sslmode=verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(tmp_path / "ca.pem"))
    assert f"sslrootcert: {tmp_path}/ca.pem" in refusal(DatabaseSettings)
    (tmp_path / "ca.pem").touch()
    settings.load(DatabaseSettings)


@pytest.mark.parametrize(
    ("address", "remote"),
    [
        ("user:secret-word@db/x", "db"),
        ("user:secret-word@db/x?sslmode=require", "db"),
        ("user:secret-word@db/x?sslmode=verify-ca&sslrootcert={ca}", "db"),
        ("user:secret-word@127.0.0.1:5432,10.0.0.7:5432/x", "10.0.0.7"),
        ("user:secret-word@[2001:db8::1]:5432/x", "2001:db8::1"),
        ("user:secret-word@localhost.example.com/x", "localhost.example.com"),
        ("user:secret-word@127.0.0.1.example.com/x", "127.0.0.1.example.com"),
    ],
)
def test_a_database_on_another_machine_must_be_checked_unless_a_setting_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str, remote: str
) -> None:
    (tmp_path / "ca.pem").touch()
    monkeypatch.delenv("PGSSLMODE", raising=False)
    monkeypatch.setenv("TOPSYNC_DATABASE_URL", f"postgresql://{address.format(ca=tmp_path / 'ca.pem')}")
    line = refusal(DatabaseSettings)
    assert re.match(rf"TOPSYNC_DATABASE_URL: .*{re.escape(remote)} is another machine: .*verify-full", line)
    assert "TOPSYNC_DATABASE_UNVERIFIED=true" in line
    assert "secret-word" not in line
    monkeypatch.setenv("TOPSYNC_DATABASE_UNVERIFIED", "true")
    assert settings.load(DatabaseSettings).unverified_hosts == [remote]


@pytest.mark.parametrize(
    "address",
    [
        "user@localhost/x",
        "user@127.0.0.2:5432,[::1]:5432/x",
        "user@%2Fvar%2Frun%2Fpostgresql/x",
        "user@db/x?sslmode=verify-full&sslrootcert={ca}",
    ],
)
def test_a_database_on_this_machine_or_checked_needs_no_permission(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str
) -> None:
    (tmp_path / "ca.pem").touch()
    monkeypatch.delenv("PGSSLMODE", raising=False)
    monkeypatch.setenv("TOPSYNC_DATABASE_URL", f"postgresql://{address.format(ca=tmp_path / 'ca.pem')}")
    assert settings.load(DatabaseSettings).unverified_hosts == []


def test_a_user_id_without_a_name_needs_a_user_in_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container: the driver would look the name up, and end with a trace."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "PGUSER", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    monkeypatch.setenv("TOPSYNC_DATABASE_URL", "postgresql://localhost/x")
    assert "it names no user, and this process's own has no name: write user@host" in refusal(
        DatabaseSettings
    )
    for url in ("postgresql://user@localhost/x", "postgresql://localhost/x?user=somebody"):
        monkeypatch.setenv("TOPSYNC_DATABASE_URL", url)
        settings.load(DatabaseSettings)


def test_a_secret_that_is_no_text_is_one_line_without_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "TOPSYNC_DATABASE_URL").write_bytes(b"secret-word\xff")
    monkeypatch.setenv("TOPSYNC_SECRETS_DIR", str(tmp_path))
    assert refusal(DatabaseSettings).startswith("TOPSYNC_SECRETS_DIR: a file in it is not text in UTF-8.")


@pytest.mark.parametrize(
    "servers", ["a:b:c", "kafka:0", "kafka:65536", "kafka:9092,", "kafka 9092", "kafka:"]
)
def test_brokers_that_are_no_addresses_are_refused(monkeypatch: pytest.MonkeyPatch, servers: str) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", servers)
    assert "KAFKA_BOOTSTRAP_SERVERS: Value error, each entry is `host:port`" in refusal(KafkaSettings)


@pytest.mark.parametrize(
    "servers", ["kafka:9092", "kafka", "a.b-c_d:1, [2001:db8::1]:9092", "127.0.0.1:65535"]
)
def test_brokers_may_be_written_in_every_usual_form(monkeypatch: pytest.MonkeyPatch, servers: str) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", servers)
    assert settings.load(KafkaSettings).kafka_bootstrap_servers == servers


def test_rows_are_not_kept_for_a_shorter_time_than_something_needs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request in the topic `signals` may be read again: as long as that, its id must be known."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")
    kept = settings.load(RetentionSettings).kept(settings.load(KafkaSettings))
    assert set(kept) == set(Period)
    assert kept[Period.JOBS] > timedelta(days=98)

    monkeypatch.setenv("TOPSYNC_JOBS_KEPT_DAYS", "97")
    with pytest.raises(
        SettingsError, match=r"^TOPSYNC_JOBS_KEPT_DAYS: .* a request again for 98 days"
    ) as wrong:
        settings.load(RetentionSettings).kept(settings.load(KafkaSettings))
    assert "\n" not in str(wrong.value)
    monkeypatch.setenv("TOPSYNC_NOTICES_RETENTION_HOURS", "2136")
    assert settings.load(RetentionSettings).kept(settings.load(KafkaSettings))


@pytest.mark.parametrize("named", ["TOPSYNC_WINDOW_SUMS_KEPT_DAYS", None])
def test_sums_of_windows_do_not_go_before_the_windows(
    monkeypatch: pytest.MonkeyPatch, named: str | None
) -> None:
    """Also where only one of the two is set."""
    monkeypatch.setenv("TOPSYNC_WINDOWS_KEPT_DAYS", "1096")
    if named:
        monkeypatch.setenv(named, "1095.5")
    with pytest.raises(
        SettingsError, match=r"^TOPSYNC_WINDOW_SUMS_KEPT_DAYS: .* kept for 1096 days"
    ) as wrong:
        settings.load(RetentionSettings)
    assert "\n" not in str(wrong.value)


def test_nothing_is_kept_for_no_time_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (field for field in RetentionSettings.model_fields if field.endswith("_days")):
        with monkeypatch.context() as patch:
            patch.setenv(f"TOPSYNC_{name.upper()}", "0")
            with pytest.raises(SettingsError, match=f"TOPSYNC_{name.upper()}: .*greater than 0"):
                settings.load(RetentionSettings)


def test_an_anomaly_that_is_switched_off_or_known_concerns_nobody() -> None:
    own = AnomalySettings(
        anomalies_off="behind_answers, unknown_type",
        anomalies_known="unknown_field:order.x_new, unknown_field:refund.*",
    )
    heard = {
        (kind, name): own.concerns(kind, name)
        for kind, name in (
            (AnomalyKind.BEHIND_ANSWERS, "details"),
            (AnomalyKind.UNKNOWN_FIELD, "order.x_new"),
            (AnomalyKind.UNKNOWN_FIELD, "order.x_newer"),
            (AnomalyKind.UNKNOWN_FIELD, "refund.x"),
            (AnomalyKind.UNKNOWN_CODE, "order.x_new"),
        )
    }
    assert list(heard.values()) == [False, False, True, False, True]


@pytest.mark.parametrize(
    ("name", "text"), [("off", "silent"), ("known", "order.x_new"), ("known", "silent_shop:")]
)
def test_a_wrong_name_of_an_anomaly_stops_a_process(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TOPSYNC_ANOMALIES_{name.upper()}", text)
    with pytest.raises(SettingsError, match=f"TOPSYNC_ANOMALIES_{name.upper()}"):
        settings.load(AnomalySettings)


def test_hours_are_kept_for_as_long_as_they_are_compared_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPSYNC_ANOMALIES_KEPT_DAYS", "62")
    with pytest.raises(SettingsError, match="at least 63 days"):
        settings.load(RetentionSettings)
