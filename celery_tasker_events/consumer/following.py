"""Follower: the messages of a queue as they are committed, each once, without taking them.

A message that is deleted between two polls is never seen; one that is archived is, in the archive.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from celery_tasker_events.consumer import looking_sql
from celery_tasker_events.consumer.entry import Entry
from celery_tasker_events.consumer.gaps import Gaps
from celery_tasker_events.consumer.looking import Queue, last_events
from celery_tasker_events.consumer.scanning import Filter, Progress, read
from celery_tasker_events.durable.queues import Connection
from celery_tasker_events.errors import UnknownQueue

__all__ = ["Follower"]

#: How many messages one poll reads at most.
BATCH = 1000

#: How many ids below the first one are looked at for transactions that had not committed when following began.
LOOK_BACK = 1000


class Follower:
    """Follows one queue and its archive.

    It keeps no connection: each call is given one, and after a lost connection the next call goes on where the last one
    that succeeded ended.
    """

    def __init__(self, queue: Queue, wanted: Filter | None = None) -> None:
        self._queue = queue
        self._wanted = wanted or Filter()
        self._gaps = Gaps()
        self._last = 0
        self._oid: int | None = None
        #: Whether the last poll left something for the next one.
        self.is_behind = False

    def begin(self, connection: Connection, count: int, progress: Progress | None = None) -> list[Entry]:
        """Return the last wanted events so far, so many at most, the oldest first; polls begin after these.

        Raises:
            UnknownQueue: if the queue was dropped.
        """
        *_, self._oid = self._position(connection)
        newest = [read(connection, looking_sql.ENDS.format(table=source.table))[0][1] or 0 for source in self._queue.sources]
        self._last = max(newest)
        self._gaps = Gaps()
        # What another transaction commits later under an id before the last one is new too.
        start = max(self._last - LOOK_BACK, 0)
        recent = {
            msg_id
            for source in self._queue.sources
            for (msg_id,) in read(connection, looking_sql.RECENT_IDS.format(table=source.table), {"after": start})
        }
        self._gaps.add(start, {self._last, *(msg_id for msg_id in recent if msg_id <= self._last)})
        entries = last_events(connection, self._queue, count, self._wanted, high=self._last, progress=progress)
        self._gaps.fill(entry.msg_id for entry in entries)
        return entries

    def poll(self, connection: Connection) -> list[Entry]:
        """Return the wanted events that were committed since the last call, in the order of their ids.

        Raises:
            UnknownQueue: if the queue was dropped.
        """
        xmin, xmax, writers, oid = self._position(connection)
        if oid != self._oid:
            # Dropped and made again: its ids start anew.
            self._oid, self._last, self._gaps = oid, 0, Gaps()
        try:
            turned_up = self._turned_up(connection)
            newer = self._select(connection, looking_sql.NEWER, {"last": self._last})
        except psycopg.errors.UndefinedTable:
            # Dropped since the position was told; if it is there again, the next poll begins anew.
            if self._position(connection)[-1] == self._oid:
                raise
            return []
        self._gaps.fill(row[1] for row in turned_up)
        if len(turned_up) < BATCH:
            self._gaps.settle(xmin, xmax, writers)
        self._last = self._gaps.add(self._last, (row[1] for row in newer))
        self.is_behind = len(newer) >= BATCH or len(turned_up) >= BATCH
        return [Entry.of(self._queue.name, row[1:]) for row in (*turned_up, *newer) if row[0]]

    def _turned_up(self, connection: Connection) -> list[Any]:
        ranges = self._gaps.ranges
        if not ranges:
            return []
        lows, highs = map(list, zip(*ranges, strict=True))
        return self._select(connection, looking_sql.TURNED_UP, {"lows": lows, "highs": highs})

    def _select(self, connection: Connection, statement: sql.SQL, parameters: dict[str, Any]) -> list[Any]:
        """Read from queue and archive at once; return the rows with the lowest ids, one for each."""
        parts = []
        for source in self._queue.sources:
            condition = self._wanted.condition(source)
            entry = source.entry(looking_sql.TEXT_IF_WANTED.format(condition=condition))
            parts.append(statement.format(condition=condition, entry=entry, table=source.table))
        both = sql.SQL("\nunion all\n").join(parts)
        rows = read(connection, both, {**self._wanted.parameters(), **parameters, "limit": BATCH})
        by_id = {row[1]: row for row in rows}
        return [by_id[msg_id] for msg_id in sorted(by_id)][:BATCH]

    def _position(self, connection: Connection) -> tuple[int, int, frozenset[str], int]:
        table = self._queue.sources[-1].table.as_string(connection)
        [(xmin, xmax, writers, oid)] = read(connection, looking_sql.POSITION, {"table": table})
        if oid is None:
            raise UnknownQueue(f"queue {self._queue.name!r} was dropped")
        return xmin, xmax, frozenset(writers), oid
