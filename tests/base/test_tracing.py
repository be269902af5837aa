"""Which spans are kept; and that traces which are off cost nothing, not even an import."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from schemas import trace_context
from schemas.trace_context import TraceContext
from tests.support.spans import KeptSpans
from topsync.base import settings, tracing
from topsync.base.settings import SettingsError, TracesSettings
from topsync.base.tracing import Allowance, Traces, TracesExtraMissingError

SAMPLED, UNSAMPLED = (TraceContext("a" * 32, "b" * 16, is_sampled) for is_sampled in (True, False))
URL = "TOPSYNC_TRACES_URL"

OFF = """
import sys
from topsync.base import service, tracing
from topsync.wiring import enrich, push, reconcile

async def body(lifetime):
    assert tracing.active is None
    print(sorted(name for name in sys.modules if name.startswith(("opentelemetry", "requests", "google"))))

service.run("push", body)
"""


@pytest.fixture(autouse=True)
def _no_sampling_after_the_test() -> Iterator[None]:
    yield
    assert tracing.active is None
    trace_context.sample(0)


def test_a_service_without_the_setting_imports_nothing_of_opentelemetry() -> None:
    ended = subprocess.run([sys.executable, "-c", OFF], capture_output=True, timeout=60, check=True)
    assert ended.stdout.decode().splitlines() == ["[]"]


def test_traces_without_their_extra_end_a_process_in_one_line_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(URL, "http://127.0.0.1:1/v1/traces")
    monkeypatch.delitem(sys.modules, "topsync.base.span_export", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(TracesExtraMissingError) as raised, tracing.exported("push"):
        pass
    assert "pip install 'topsync[traces]'" in str(raised.value)
    assert "\n" not in str(raised.value)


def traces(monotonic: list[float]) -> Traces:
    return Traces(KeptSpans(), slow_seconds=5, unsampled=Allowance(2, lambda: monotonic[0]))


def test_a_sampled_trace_is_kept_whole() -> None:
    assert all(traces([0.0]).keeps(SAMPLED, seconds=0, failed=False) for _ in range(10))


def test_of_other_traces_what_was_slow_or_failed_is_kept() -> None:
    kept = traces([0.0])
    assert not kept.keeps(UNSAMPLED, seconds=4.9, failed=False)
    assert kept.keeps(UNSAMPLED, seconds=5.0, failed=False)
    assert kept.keeps(UNSAMPLED, seconds=0.0, failed=True)


def test_an_outage_in_which_everything_is_slow_keeps_no_more_than_so_many_a_second() -> None:
    clock = [0.0]
    kept = traces(clock)
    first = [kept.keeps(UNSAMPLED, seconds=9, failed=True) for _ in range(100)]
    clock[0] = 60.0
    later = [kept.keeps(UNSAMPLED, seconds=9, failed=True) for _ in range(100)]
    assert (sum(first), sum(later)) == (2, 2)


@pytest.mark.parametrize(("share", "least", "most"), [(0, 0, 0), (0.25, 400, 600), (1, 2000, 2000)])
def test_the_share_of_the_traces_that_begin_here_is_marked_for_all_who_follow(
    share: float, least: int, most: int
) -> None:
    trace_context.sample(share)
    begun = [trace_context.begin() for _ in range(2000)]
    marked = [text for text in begun if text.endswith("-01")]
    assert least <= len(marked) <= most
    trace_context.sample(0)
    assert all((trace_context.go_on(text)[-2:] == "01") == (text in marked) for text in begun[:50])


@pytest.mark.parametrize("headers", ["secret-without-a-name", "a b=c", "=x", "a=b%0d%0ax: y"])
def test_headers_that_are_none_are_refused_without_showing_them(
    monkeypatch: pytest.MonkeyPatch, headers: str
) -> None:
    monkeypatch.setenv("TOPSYNC_TRACES_HEADERS", headers)
    with pytest.raises(SettingsError) as raised:
        settings.load(TracesSettings)
    assert headers not in str(raised.value)
    assert str(raised.value).startswith("TOPSYNC_TRACES_HEADERS")
