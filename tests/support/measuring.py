"""`make coverage` also measures processes that get an environment of their own."""

from __future__ import annotations

import os
from typing import Final

VARIABLES: Final = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
"""What such an environment needs beside the test's own variables; empty outside of `make coverage`."""
