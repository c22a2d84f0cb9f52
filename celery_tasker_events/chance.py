"""Chance in waits, so that processes which wait for the same do not all come at once."""

from __future__ import annotations

import random
from collections.abc import Iterator

__all__ = ["backoffs", "between"]

# Not the one that all share: a task that has seeded that gets the numbers that it expects, however often we wait. It has no
# state, so forked children do not wait alike.
_random = random.SystemRandom()


def between(least: float, most: float) -> float:
    """Return a number at random."""
    return _random.uniform(least, most)


def backoffs(first: float, last: float) -> Iterator[float]:
    """Seconds to wait after each failure in a row: doubled from the first to the last, less up to half at random."""
    seconds = first
    while True:
        yield seconds * between(0.5, 1.0)
        seconds = min(seconds * 2, last)
