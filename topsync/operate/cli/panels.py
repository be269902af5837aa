"""The panels that the help of `topsync` is cut into."""

from __future__ import annotations

from typing import Final

SERVICES: Final = "Services (each runs until SIGTERM)"
JOBS: Final = "Jobs (each ends by itself)"
OPERATIONS: Final = "Operations"
TRYING: Final = "Trying it out"
