"""Chance in waits, so that processes which wait for the same do not all come at once."""

from __future__ import annotations

import random

__all__ = ["between"]

# Not the one that all share: a task that has seeded that gets the numbers that it expects, however often we wait. It has no
# state, so forked children do not wait alike.
_random = random.SystemRandom()


def between(least: float, most: float) -> float:
    """Return a number at random."""
    return _random.uniform(least, most)
