"""Numbers as people read them: durations, counts, rates."""

from __future__ import annotations

__all__ = ["duration", "precise", "quantity", "rate"]

NONE = "-"

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float | None) -> str:
    """Return seconds in the two largest units that they fill: ``2 h 5 min``; a dash for none."""
    if seconds is None:
        return NONE
    if seconds < 10:
        return f"{round(seconds, 1):g} s"
    left, parts = round(seconds), []
    for size, unit in _UNITS:
        if left >= size:
            parts.append((left // size, unit))
            left %= size
        elif parts:
            parts.append((0, unit))
    return " ".join(f"{number} {unit}" for number, unit in parts[:2] if number)


def precise(seconds: float | None) -> str:
    """Return a short time to the millisecond: ``12 ms``, ``1.25 s``; a longer one as a duration."""
    if seconds is None or seconds >= 60:
        return duration(seconds)
    return f"{round(seconds * 1000)} ms" if seconds < 1 else f"{seconds:.2f} s"


def quantity(number: float | None) -> str:
    """Return a count with at most four digits: ``950``, ``12.3k``, ``1.2M``; a dash for none."""
    if number is None:
        return NONE
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            return f"{number / (1000 if letter == 'k' else size):.4g}{letter}"
    return f"{number:.4g}"


def rate(per_second: float | None) -> str:
    """Return a rate: ``12.5/s``; a dash for none."""
    return NONE if per_second is None else f"{quantity(round(per_second, 2))}/s"
