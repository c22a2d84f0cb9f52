"""A moment on the command line: a time, or how long ago."""

from __future__ import annotations

import datetime
import re

import click

__all__ = ["moment"]

_AGO = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(ctx: click.Context, parameter: click.Parameter, given: str | None) -> datetime.datetime | None:
    """Callback of an option: ``15m``, ``2h``, ``7d`` is so long ago; else RFC 3339, in UTC unless it says otherwise."""
    if given is None:
        return None
    utc = datetime.timezone.utc
    try:
        if ago := _AGO.fullmatch(given):
            return datetime.datetime.now(utc) - datetime.timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        # Python 3.10 reads no "Z".
        time = datetime.datetime.fromisoformat(re.sub("[zZ]$", "+00:00", given))
        return time.replace(tzinfo=utc) if time.tzinfo is None else time.astimezone(utc)
    except (ValueError, OverflowError):
        message = f"{given!r} is no moment: give how long ago (90s, 15m, 2h, 7d) or a time (2026-01-31T10:00:00Z)"
        raise click.BadParameter(message) from None
