"""What a spool holds, for commands: read without making a file, and without a claim on anything."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from celery_tasker_events.durable.spool import sql
from celery_tasker_events.durable.spool.owner import is_alive
from celery_tasker_events.durable.spool.spool import BUSY_TIMEOUT, reading

__all__ = ["LOOK_TIMEOUT", "SpoolTotals", "Waiting", "clear", "events_by_owner", "spool_totals", "waiting"]


#: Seconds to wait for a file that another process has locked, for a worker's main process, which has more to do.
LOOK_TIMEOUT = 0.05


class SpoolTotals(NamedTuple):
    """How much a spool holds, of all processes.

    Attributes:
        bytes: Of the events alone; the file is larger.
        oldest: POSIX timestamp in seconds of the oldest event; None if there is none.
    """

    events: int
    bytes: int
    oldest: float | None


class Waiting(NamedTuple):
    """How many of one event wait.

    Attributes:
        is_owned: Whether their process is running: it publishes them itself.
    """

    namespace: str
    event_name: str
    is_owned: bool
    events: int


def spool_totals(path: Path, timeout: float = BUSY_TIMEOUT) -> SpoolTotals:
    """Return what the file holds; a missing one holds nothing.

    Args:
        timeout: Seconds to wait where another process has locked it.

    Raises:
        SpoolUnusable: if it can't be read.
    """
    with reading(path, timeout) as connection:
        return SpoolTotals(0, 0, None) if connection is None else SpoolTotals(*connection.execute(sql.TOTALS).fetchone())


def waiting(path: Path) -> list[Waiting]:
    """Return what waits, by event, in the order of the oldest of each.

    Raises:
        SpoolUnusable: if the file can't be read.
    """
    found: dict[tuple[str, str, bool], int] = {}
    with reading(path) as connection:
        if connection is not None:
            rows = connection.execute(sql.NAMES).fetchall()
            owned = {owner: is_alive(path.parent, owner) for owner in {row[0] for row in rows}}
            for owner, namespace, event_name, events in rows:
                key = (namespace, event_name, owned[owner])
                found[key] = found.get(key, 0) + events
    return [Waiting(*key, events) for key, events in found.items()]


def events_by_owner(path: Path) -> dict[str, tuple[int, bool]]:
    """Return how many events each process has there, and whether it is running.

    Raises:
        SpoolUnusable: if the file can't be read.
    """
    found: dict[str, int] = {}
    with reading(path) as connection:
        for owner, _, _, events in connection.execute(sql.NAMES) if connection is not None else ():
            found[owner] = found.get(owner, 0) + events
    return {owner: (events, is_alive(path.parent, owner)) for owner, events in found.items()}


def clear(path: Path) -> int:
    """Throw away all that waits, that of running processes included; return how many events that was.

    Raises:
        SpoolUnusable: if the file can't be written.
    """
    with reading(path) as connection:
        return 0 if connection is None else connection.execute(sql.CLEAR).rowcount
