"""What an expression for Prometheus asks for, and whether a process shows it."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Final

import pytest

from topsync.base import metrics
from topsync.base.metric_catalogue import MetricKind

ASKED: Final = re.compile(r"\b(topsync_\w+)(?:\{([^}]*)\})?")
"""A metric in an expression, and what it selects."""

PROMTOOL_SECONDS: Final = 60.0
NO_PROMTOOL: Final = (
    "promtool is not on PATH, so this was not tried: it comes with Debian's package `prometheus`, which may "
    "be unpacked without being installed (apt-get download prometheus; dpkg-deb -x)"
)


def unknown(expression: str) -> list[str]:
    """The metrics, and labels of metrics, that an expression asks for and no process shows."""
    known, found = metrics.entered(), []
    for name, selected in ASKED.findall(expression):
        metric = known.get(name) or known.get(re.sub(r"_(bucket|sum|count)$", "", name))
        if metric is None or (name != metric.name and metric.kind is not MetricKind.HISTOGRAM):
            found.append(name)
            continue
        labels = {label.name for label in metric.labels} | {"le"}
        asked = re.findall(r"(\w+)\s*[=!]", selected)
        found += [f"{name}{{{label}}}" for label in asked if label not in labels]
    return found


def promtool(*arguments: str) -> None:
    """Run promtool; skips where it is not on this machine: nothing that the project installs brings it."""
    if (program := shutil.which("promtool")) is None:
        pytest.skip(NO_PROMTOOL)
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=PROMTOOL_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
