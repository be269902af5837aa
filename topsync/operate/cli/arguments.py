"""Arguments and options that several commands take, and how they are read."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated

import typer

FIRST_YEAR = 2000
"""There was no platform before: an earlier time is a mistake, and Kafka does not accept it."""

INSTALLATIONS = "default"
"""In the place of a seller's scheme: the installation's."""


def platform_moment(text: str) -> datetime:
    """A time as typed: in the platform's zone (GMT+8), unless it names another zone."""
    from schemas import platform_time

    try:
        typed = datetime.fromisoformat(text.strip())
        moment = typed if typed.tzinfo is None else typed.astimezone(platform_time.CHINA)
    except (ValueError, OverflowError):
        moment = None
    if moment is None or moment.year < FIRST_YEAR:
        raise typer.BadParameter(f"{text!r} is no time such as '2026-11-20 10:00:00'")
    return moment.replace(tzinfo=None)


def platform_id(text: str) -> int:
    """An id of the platform: a seller's, an order's."""
    from schemas.types import parse_id

    if not (text.isascii() and text.isdigit()):
        raise typer.BadParameter(f"{text!r} is no id of the platform, which is a number")
    try:
        return parse_id(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def seller_nick(text: str) -> str:
    """A nick that a seller may have."""
    from topsync.store import sellers

    try:
        return sellers.valid_nick(text)
    except sellers.NickError as error:
        raise typer.BadParameter(str(error)) from None


def scheme_word(text: str) -> str:
    """A scheme, or the word for the installation's."""
    from topsync.model.scheme import Scheme

    words = [*Scheme, INSTALLATIONS]
    if text not in words:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(words)}")
    return text


Moment = partial(typer.Option, parser=platform_moment, metavar="<time>")

OfSeller = Annotated[str | None, typer.Option(help="Only of this seller: nick or id.")]
AsJson = Annotated[bool, typer.Option("--json", help="For machines: one object a line.")]
AsDocument = Annotated[bool, typer.Option("--json", help="For machines: one document.")]
