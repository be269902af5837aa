"""The steps of a bulk start, as people see them."""

from __future__ import annotations

from typing import Final

STEPS: Final = {
    "subscribe": "subscribing",
    "export": "waiting for the export",
    "load": "loading the export",
    "store": "storing orders",
    "today": "today's changes",
    "live": "live",
}
