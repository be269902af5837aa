"""What ends a bulk start, or a slice of it."""

from __future__ import annotations

from topsync.base.errors import OperatorError


class BootstrapFailedError(OperatorError):
    """The bulk start cannot go on. The text says what to do; a new run goes on where this run stood."""


class ExportNotGivenError(Exception):
    """The platform gives this application, or this seller, no bulk export. The text says why."""
