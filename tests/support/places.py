"""Where things are in the checkout, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
DATA: Final = ROOT / "tests" / "data"
CASES: Final = DATA / "cases"
"""Small answers of the platform that once caused an error."""
SAMPLES: Final = DATA / "top-samples"
"""Documented answers of the gateway."""
