"""Ids below the last one seen whose messages may still turn up: their transactions are not known to have ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Gaps"]

#: How many gaps are remembered. Only a transaction that runs for very long beside busy consumers makes more of them; then
#: the oldest ones are given up.
LIMIT = 10_000


@dataclass
class _Gap:
    low: int
    high: int
    #: Transactions at or above this id began after the gap was seen; None until the next look tells it.
    settled_by: int | None = None
    #: Who was writing to the queue then.
    writers: frozenset[str] = frozenset()


class Gaps:
    """Ranges of ids that were missing when later ones were seen: rolled back, taken by a consumer, or not committed yet.

    A gap is given up when all transactions have ended that ran when it was seen: what is still missing then was never
    committed, or is gone already.
    """

    def __init__(self) -> None:
        self._gaps: list[_Gap] = []

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The first and the last id of each."""
        return [(gap.low, gap.high) for gap in self._gaps]

    def add(self, last: int, seen: Iterable[int]) -> int:
        """Add what is missing between the last id and those that were seen after it; return the new last id."""
        for msg_id in sorted(set(seen)):
            if msg_id > last + 1:
                self._gaps.append(_Gap(last + 1, msg_id - 1))
            last = max(last, msg_id)
        del self._gaps[:-LIMIT]
        return last

    def fill(self, seen: Iterable[int]) -> None:
        """Take ids out that have turned up."""
        filled = sorted(seen)
        if filled:
            self._gaps = [part for gap in self._gaps for part in _without(gap, filled)]

    def settle(self, xmin: int, xmax: int, writers: frozenset[str]) -> None:
        """Give up what can't turn up any more.

        Call this after the gaps were looked for, with what was true before.

        Args:
            xmin: All transactions below this id have ended.
            xmax: No transaction at or above this id has begun.
            writers: The transactions that are writing to the queue; one may not have an id yet.
        """
        self._gaps = [gap for gap in self._gaps if gap.settled_by is None or xmin < gap.settled_by or gap.writers & writers]
        for gap in self._gaps:
            if gap.settled_by is None:
                gap.settled_by, gap.writers = xmax, writers


def _without(gap: _Gap, filled: Sequence[int]) -> Iterator[_Gap]:
    low = gap.low
    for msg_id in filled:
        if low <= msg_id <= gap.high:
            if low < msg_id:
                yield _Gap(low, msg_id - 1, gap.settled_by, gap.writers)
            low = msg_id + 1
    if low <= gap.high:
        yield _Gap(low, gap.high, gap.settled_by, gap.writers)
