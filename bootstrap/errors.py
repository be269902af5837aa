"""What ends a bulk start, or a slice of it."""

from __future__ import annotations

from topsync.base.errors import OperatorError


class BootstrapFailedError(OperatorError):
    """The bulk start cannot go on. The text says what to do; a new run goes on where this run stood."""


class ExportNotGivenError(Exception):
    """The platform gives this application, or this seller, no bulk export of a kind. The text says why."""


class OutOfReachError(Exception):
    """The platform no longer gives any day of a slice: nothing of it can be had, and nothing is claimed."""
