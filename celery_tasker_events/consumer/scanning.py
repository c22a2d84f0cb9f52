"""Finds messages in tables of any size: the server filters them, in chunks along the primary key."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import errors, sql

from celery_tasker_events.bus.pattern import Pattern
from celery_tasker_events.consumer import looking_sql
from celery_tasker_events.consumer.entry import Entry
from celery_tasker_events.durable.queues import Connection
from celery_tasker_events.errors import HeadersMissing

__all__ = ["Filter", "Progress", "Source", "chunks", "first_since", "matching", "planned", "read"]

#: Rows of one chunk: some milliseconds for the server, and tens of megabytes here if all of them match.
CHUNK = 20_000

#: Called with what is read, how many of its ids are behind, and how many there are.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Source:
    """The table of a queue, or of its archive."""

    queue: str
    archived: bool

    def __str__(self) -> str:
        return f"{self.queue} (archive)" if self.archived else self.queue

    @property
    def table_name(self) -> str:
        # As PGMQ makes the name of a queue's table.
        return f"{'a' if self.archived else 'q'}_{self.queue}".lower()

    @property
    def table(self) -> sql.Identifier:
        return sql.Identifier("pgmq", self.table_name)

    def entry(self, text: sql.Composable = looking_sql.TEXT) -> sql.Composed:
        """The columns of an entry. ``text``: of its message, or what stands for it."""
        archived_at = looking_sql.ARCHIVED_AT if self.archived else looking_sql.NOT_ARCHIVED
        return looking_sql.ENTRY.format(archived_at=archived_at, text=text)


@dataclass(frozen=True)
class Filter:
    """Which messages are wanted; None: whichever.

    Attributes:
        outcome: A status, such as ``"failed"``.
        since: Enqueued then or later.
        until: Enqueued before.
        originals: Whether replays are left out.
    """

    event: Pattern | None = None
    outcome: str | None = None
    correlation_id: str | None = None
    event_id: str | None = None
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    originals: bool = False

    def condition(self, source: Source) -> sql.Composable:
        """Return what the server filters the messages of a source by."""
        parts: list[sql.Composable] = [
            sql.SQL("{} = {}").format(expression, sql.Placeholder(name))
            for name, expression in (("outcome", looking_sql.OUTCOME), ("event_id", looking_sql.EVENT_ID))
            if getattr(self, name) is not None
        ]
        if self.event is not None:
            parts.append(sql.SQL("{} ~ {}").format(looking_sql.EVENT_NAME, sql.Placeholder("event")))
        if self.correlation_id is not None:
            belongs: sql.Composable = sql.SQL("{} = {}").format(looking_sql.CORRELATION_ID, sql.Placeholder("correlation_id"))
            if source.queue.endswith("_dlq"):
                belongs = sql.SQL("({} or {})").format(belongs, looking_sql.REFUSED_WITH_CORRELATION_ID)
            parts.append(belongs)
        if self.since is not None:
            parts.append(sql.SQL("enqueued_at >= {}").format(sql.Placeholder("since")))
        if self.until is not None:
            parts.append(sql.SQL("enqueued_at < {}").format(sql.Placeholder("until")))
        if self.originals:
            parts.append(looking_sql.IS_NO_REPLAY)
        return sql.SQL(" and ").join(parts) if parts else sql.SQL("true")

    def parameters(self) -> Mapping[str, Any]:
        """Return the parameters of the condition."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        quoted = json.dumps(self.correlation_id, ensure_ascii=False)
        return {
            **given,
            "event": self.event and self.event.regular_expression,
            "quoted": f'"correlation_id":{quoted}',
            "quoted_in_cloudevent": f'"correlationid":{quoted}',
        }


def read(connection: Connection, statement: sql.SQL | sql.Composed, parameters: Mapping[str, Any] | None = None) -> list[Any]:
    """Return all rows of a statement, in a transaction of its own: read-only if the connection says so.

    Raises:
        HeadersMissing: if the queues have none.
    """
    try:
        with connection.transaction():
            return connection.execute(statement, parameters).fetchall()
    except errors.UndefinedColumn as error:
        # Of what is read, it is the one column that not every PGMQ has.
        raise HeadersMissing from error


def planned(connection: Connection, statement: sql.SQL | sql.Composed, parameters: Mapping[str, Any] | None = None) -> Any:
    """Return the planner's plan of a statement, as JSON data."""
    [(plans,)] = read(connection, looking_sql.EXPLAIN.format(statement=statement), parameters)
    return plans[0]["Plan"]


def first_since(connection: Connection, source: Source, moment: datetime.datetime) -> int:
    """Return the first id that was enqueued at that moment or later; one above all if none was, 0 of an empty table.

    Enqueued means that its transaction began: beside long transactions the border is as blurred as they are long.
    """
    rows = read(connection, looking_sql.FIRST_SINCE.format(table=source.table), {"moment": moment})
    return rows[0][0] if rows else 0


def matching(
    connection: Connection,
    source: Source,
    wanted: Filter,
    *,
    limit: int,
    low: int | None = None,
    high: int | None = None,
    newest_first: bool = False,
    progress: Progress | None = None,
) -> Iterator[Entry]:
    """Yield the wanted messages of a source, by their ids; in any order where an index finds them.

    Args:
        limit: How many at most.
        low: Lowest message id that may be; by default the first one.
        high: Highest message id that may be; by default the last one.
        progress: Told after each chunk.
    """
    parts = {"entry": source.entry(), "table": source.table, "condition": wanted.condition(source)}
    parameters = {**wanted.parameters(), "limit": limit}
    everywhere = looking_sql.MATCHING.format(**parts)
    if low is None and high is None and not newest_first and _is_indexed(connection, everywhere, parameters):
        yield from (Entry.of(source.queue, row) for row in read(connection, everywhere, parameters))
        return
    statement = looking_sql.IN_CHUNK.format(**parts, direction=sql.SQL("desc" if newest_first else "asc"))
    for after, up_to in chunks(connection, source, low, high, newest_first, progress):
        if limit <= 0:
            return
        rows = read(connection, statement, {**parameters, "limit": limit, "after": after, "up_to": up_to})
        limit -= len(rows)
        yield from (Entry.of(source.queue, row) for row in rows)


def _is_indexed(connection: Connection, statement: sql.SQL | sql.Composed, parameters: Mapping[str, Any]) -> bool:
    return "Seq Scan" not in json.dumps(planned(connection, statement, parameters))


def chunks(
    connection: Connection,
    source: Source,
    low: int | None,
    high: int | None,
    newest_first: bool = False,
    progress: Progress | None = None,
) -> Iterator[tuple[int, int]]:
    """Yield the borders of chunks: the id before the first, and the last.

    Args:
        low, high: As for :func:`matching`.
    """
    [(first, last)] = read(connection, looking_sql.ENDS.format(table=source.table))
    if first is None:
        return
    after = max(first, first if low is None else low) - 1
    up_to = last if high is None else min(last, high)
    total = up_to - after
    template = looking_sql.LAST_OF_CHUNK_BACKWARDS if newest_first else looking_sql.LAST_OF_CHUNK
    last_of_chunk = template.format(table=source.table)
    while after < up_to:
        [(border,)] = read(connection, last_of_chunk, {"after": after, "up_to": up_to, "rows": CHUNK})
        if border is None:
            return
        if newest_first:
            yield border - 1, up_to
            up_to = border - 1
        else:
            yield after, border
            after = border
        if progress is not None:
            progress(str(source), total - (up_to - after), total)
