"""PostgreSQL's errors that pass by themselves, by classes of SQLSTATE (PostgreSQL's manual, Appendix A).

Any other error is a defect of a statement or of its arguments, which no repetition cures.
"""

from __future__ import annotations

from typing import Final

import asyncpg

Errors = tuple[type[Exception], ...]

AUTHORISATION: Final = ("28",)
"""At a start these mean that the address is wrong; later, that a password is being changed or a failover is
under way."""

OUTAGES: Final = (
    *AUTHORISATION,
    "08",  # the connection broke, or could not be made
    "25006",  # the server takes no writes: it is a standby now, or was set read-only
    "25P03",  # the server ended a session that it found idle within a transaction,
    "25P04",  # or a transaction that took too long
    "40",  # undone because of what others did at the same time
    "53",  # out of disk, memory or connections
    "55P03",  # a lock was not free in time
    "57",  # an operator, a time-out, a shutdown, a start
    "58",  # the system below the server, such as its disks
)


def errors_of(*prefixes: str) -> Errors:
    """The driver's exceptions whose SQLSTATE begins with any of these."""
    return tuple(
        found
        for found in vars(asyncpg.exceptions).values()
        if isinstance(found, type)
        and issubclass(found, asyncpg.PostgresError)
        and (found.sqlstate or "").startswith(prefixes)
    )
