"""The settings of the call budget, as an operator writes them."""

from __future__ import annotations

import pytest

from topsync.base import settings
from topsync.base.settings import BudgetSettings, SettingsError
from topsync.model.priority import Priority


@pytest.fixture(autouse=True)
def _app(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPSYNC_APP_KEY", "1")
    monkeypatch.setenv("TOPSYNC_APP_SECRET", "x")


def test_the_limits_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPSYNC_CALLS_PER_SECOND", "40")
    monkeypatch.setenv("TOPSYNC_API_LIMITS", "taobao.trades.sold.get=2.5, taobao.trade.fullinfo.get=30")
    monkeypatch.setenv("TOPSYNC_CALLS_PER_DAY", "1000000")
    monkeypatch.setenv("TOPSYNC_LIVE_RESERVE_CALLS", "200000")
    limits = settings.load(BudgetSettings).limits
    assert limits.calls_per_second == 40
    assert limits.api_calls_per_second == {"taobao.trades.sold.get": 2.5, "taobao.trade.fullinfo.get": 30}
    assert limits.quota(Priority.LIVE) == 1_000_000
    assert limits.quota(Priority.GAP) == 800_000


def test_by_default_there_is_a_single_limit_and_no_quota() -> None:
    limits = settings.load(BudgetSettings).limits
    assert limits.api_calls_per_second == {}
    assert limits.quota(Priority.LIVE) is limits.quota(Priority.SWEEP) is None


@pytest.mark.parametrize(
    "text", ["taobao.time.get", "taobao.time.get=", "taobao.time.get=0", "x=1", "a.b=nan", "=5"]
)
def test_a_wrong_api_limit_is_named_with_its_fix(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TOPSYNC_API_LIMITS", text)
    with pytest.raises(SettingsError, match=r"TOPSYNC_API_LIMITS: .*api=calls per second"):
        settings.load(BudgetSettings)
