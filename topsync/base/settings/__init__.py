"""All settings of topsync. They come from the environment and are checked when a process starts.

One class per noun, in a module per subject; each process loads the classes it needs.
`docs/reference/settings.md` is generated from here (`topsync settings --markdown`). Secrets come from the
environment or, one file per setting named like the variable, from the folder `TOPSYNC_SECRETS_DIR` (a mounted
Kubernetes secret).
"""

from __future__ import annotations

from topsync.base.settings.anomaly import AnomalySettings
from topsync.base.settings.calendar import CalendarSettings
from topsync.base.settings.certificate import CertificateSettings
from topsync.base.settings.circuit import CircuitSettings
from topsync.base.settings.comparison import ComparisonSettings
from topsync.base.settings.enricher import EnricherSettings
from topsync.base.settings.fields import EnvironmentSettings
from topsync.base.settings.loading import SettingsError, load, variable, wrong
from topsync.base.settings.network import NetworkSettings
from topsync.base.settings.operation import SimulatorAdminSettings, TelemetrySettings
from topsync.base.settings.platform import (
    BudgetSettings,
    PlatformSettings,
    SessionSettings,
    VaultSettings,
)
from topsync.base.settings.pulling import BootstrapSettings, CoverageSettings, ReconcilerSettings
from topsync.base.settings.push import PushSettings
from topsync.base.settings.reference import ALL, reference_page
from topsync.base.settings.retention import RetentionSettings
from topsync.base.settings.schemes import SchemeSettings
from topsync.base.settings.servers import DatabaseSettings, KafkaSettings
from topsync.base.settings.taobao import TaobaoChannelSettings, TaobaoSettings
from topsync.base.settings.traces import TracesSettings

__all__ = [
    "ALL",
    "AnomalySettings",
    "BootstrapSettings",
    "BudgetSettings",
    "CalendarSettings",
    "CertificateSettings",
    "CircuitSettings",
    "ComparisonSettings",
    "CoverageSettings",
    "DatabaseSettings",
    "EnricherSettings",
    "EnvironmentSettings",
    "KafkaSettings",
    "NetworkSettings",
    "PlatformSettings",
    "PushSettings",
    "ReconcilerSettings",
    "RetentionSettings",
    "SchemeSettings",
    "SessionSettings",
    "SettingsError",
    "SimulatorAdminSettings",
    "TaobaoChannelSettings",
    "TaobaoSettings",
    "TelemetrySettings",
    "TracesSettings",
    "VaultSettings",
    "load",
    "reference_page",
    "variable",
    "wrong",
]
