"""The sale-day calendar as its file has it now: read again when the file changes, without a restart."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from topsync.base import metrics, settings, telemetry
from topsync.base.settings import (
    BudgetSettings,
    CalendarSettings,
    CircuitSettings,
    CoverageSettings,
    ReconcilerSettings,
)
from topsync.base.settings.calendar import usual_rules
from topsync.model import calendar_text
from topsync.model.calendar import Calendar, EffectiveRules
from topsync.model.calendar_text import CalendarError

log = telemetry.get_logger(__name__)

LOOKED_AT_EVERY_SECONDS: Final = 5.0
"""How old the file's state may be. A look costs a `stat`."""

MAX_BYTES: Final = 256 * 1024
"""Ten years of sales take a tenth of that."""

_Stamp = tuple[int, int, int] | None
"""When the file was changed, how long it is, which it is; None: it is not there."""


class LiveCalendar:
    """The calendar of a process. Calling it gives the calendar as it is now.

    A file that became wrong, or vanished, changes nothing: the last right calendar stays in force, and the
    problem is logged once, and kept in `problem`.
    """

    def __init__(
        self, file: Path | None, usual: EffectiveRules, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Read it for the first time.

        Raises:
            CalendarError: see `calendar_text.parse`.
            OSError: it cannot be read.
        """
        self._file = file
        self._usual = usual
        self._clock = clock
        self._looked_at = clock()
        self._stamp = self._stamp_now()
        self._learned = timedelta(0)
        self._calendar = Calendar(usual) if file is None else self._read(file)
        self.problem: str | None = None
        """Why the file is not in force; None where it is."""

    def __call__(self) -> Calendar:
        """The calendar as it is now. Never raises."""
        now = self._clock()
        if self._file is not None and now - self._looked_at >= LOOKED_AT_EVERY_SECONDS:
            self._looked_at = now
            self._look(self._file)
        return self._calendar

    def learn(self, allowance: timedelta) -> None:
        """Note the learned visibility allowance as it is now: it holds beside whatever the file says."""
        if allowance != self._learned:
            self._learned = allowance
            self._calendar = replace(self._calendar, learned=allowance)

    def _look(self, file: Path) -> None:
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._calendar = self._read(file)
        except (CalendarError, OSError) as error:
            self.problem = _explain(error)
            # Its text names line and field; a traceback would say no more.
            log.error(  # noqa: TRY400
                "the calendar is wrong; the former calendar stays in force", problem=self.problem
            )
        else:
            self.problem = None
            log.info("calendar read again", dates=len(self._calendar.sales))
        metrics.CALENDAR_WRONG.set(self.problem is not None)

    def _read(self, file: Path) -> Calendar:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise CalendarError(f"it is larger than {MAX_BYTES} bytes")
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise CalendarError("it is not text in UTF-8") from None
        return replace(calendar_text.parse(text, self._usual), learned=self._learned)

    def _stamp_now(self) -> _Stamp:
        if self._file is None:
            return None
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def configured() -> LiveCalendar:
    """The calendar of this installation.

    Raises:
        SettingsError: a setting, or the file, is wrong; the text names the line and the field.
    """
    try:
        return LiveCalendar(settings.load(CalendarSettings).calendar_file, usual())
    except (CalendarError, OSError) as error:
        raise settings.wrong(CalendarSettings, "calendar_file", _explain(error)) from None


def usual() -> EffectiveRules:
    """The rules of ordinary days, from the settings."""
    return usual_rules(
        settings.load(CoverageSettings),
        settings.load(ReconcilerSettings),
        settings.load(BudgetSettings),
        settings.load(CircuitSettings),
    )


def _explain(error: CalendarError | OSError) -> str:
    return str(error) if isinstance(error, CalendarError) else error.strerror or type(error).__name__
