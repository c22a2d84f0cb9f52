"""Looks at durable events without taking them: what queues hold, the last events, one event, one workflow's story.

Nothing here changes a message's visibility. No function loads a table: the server filters, and every list has a limit.
"""

from __future__ import annotations

import datetime
import itertools
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from celery_tasker_events.consumer import looking_sql
from celery_tasker_events.consumer.entry import Entry
from celery_tasker_events.consumer.scanning import Filter, Progress, Source, first_since, matching, planned, read
from celery_tasker_events.durable.message import dead_letter_queue
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import Connection
from celery_tasker_events.envelope.base import timestamp
from celery_tasker_events.errors import PgmqMissing, UnknownQueue, did_you_mean
from celery_tasker_events.event import queue_name

__all__ = ["Count", "Queue", "QueueState", "connect_to_look", "find_event", "find_queues", "last_events", "queue_states", "trace"]

#: A longer queue or archive is not counted row by row unless that is asked for.
COUNTED_EXACTLY = 100_000

_OURS, _OUR_DEAD_LETTERS = queue_name(""), dead_letter_queue(queue_name(""))

#: How far from the moment in its id an event is looked for first, and then.
_NEAR = (datetime.timedelta(seconds=5), datetime.timedelta(minutes=10))

#: How long before a moment the search for later messages begins: a long transaction blurs the border.
_BLUR = datetime.timedelta(minutes=10)


@dataclass(frozen=True)
class Queue:
    """A PGMQ queue.

    Attributes:
        namespace: Whose events or dead letters it holds; None if it is none of ours.
    """

    name: str
    has_archive: bool

    @property
    def is_dead_letters(self) -> bool:
        return self.name.endswith(_OUR_DEAD_LETTERS)

    @property
    def namespace(self) -> str | None:
        suffix = _OUR_DEAD_LETTERS if self.is_dead_letters else _OURS
        return self.name.removesuffix(suffix) if self.name.endswith(suffix) else None

    @property
    def sources(self) -> tuple[Source, ...]:
        """Its tables, the archive first: what is in it is older."""
        return (Source(self.name, True), Source(self.name, False)) if self.has_archive else (Source(self.name, False),)


@dataclass(frozen=True)
class Count:
    """How many messages there are; if not exact, how many the planner of Postgres thinks there are."""

    number: int
    exact: bool = True

    def __str__(self) -> str:
        return f"{'' if self.exact else '~'}{self.number}"


@dataclass(frozen=True)
class QueueState:
    """What a queue holds.

    Attributes:
        length: Messages in the queue.
        invisible: How many of these no consumer can read now: they are being worked on, or delayed.
        oldest: When the first of them was enqueued; None if there is none.
        newest: When the last of them was enqueued.
        total: How many were ever sent to the queue; its rate of change is the publish rate.
        archived: Messages in its archive; None if it has none.
        dead_letters: Messages in the queue of its dead letters; None if there is no such queue.
    """

    queue: Queue
    length: Count
    invisible: Count
    oldest: datetime.datetime | None
    newest: datetime.datetime | None
    total: int
    archived: Count | None
    dead_letters: Count | None

    def as_json(self) -> dict[str, Any]:
        """The state as JSON data; ``estimated`` names the counts that are not exact."""
        counts = {
            "length": self.length,
            "invisible": self.invisible,
            "archived": self.archived,
            "dead_letters": self.dead_letters,
        }
        return {
            "queue": self.queue.name,
            "namespace": self.queue.namespace,
            **{name: count and count.number for name, count in counts.items()},
            "oldest": self.oldest and timestamp(self.oldest.astimezone(datetime.timezone.utc)),
            "newest": self.newest and timestamp(self.newest.astimezone(datetime.timezone.utc)),
            "total": self.total,
            "estimated": [name for name, count in counts.items() if count is not None and not count.exact],
        }


def connect_to_look(dsn: str) -> Connection:
    """Open a connection whose transactions Postgres itself keeps from writing.

    Raises:
        psycopg.OperationalError: if there is no way to connect.
    """
    connection = connect(dsn)
    connection.read_only = True
    return connection


def find_queues(connection: Connection, names: Collection[str] = (), *, dead_letters: bool = False) -> list[Queue]:
    """Return queues by name.

    Args:
        names: Namespaces, or names of any PGMQ queues; none: all queues of domain events.
        dead_letters: Whether the dead letters of each namespace are wanted too.

    Raises:
        PgmqMissing: if the database has no PGMQ.
        UnknownQueue: if there is no queue of a name.
    """
    try:
        rows = read(connection, looking_sql.QUEUES)
    except psycopg.errors.InvalidSchemaName as error:
        raise PgmqMissing(f"database {connection.info.dbname!r}") from error
    known = {name: Queue(name, has_archive) for name, has_archive in rows}
    if not names:
        return [queue for queue in known.values() if queue.namespace is not None and (dead_letters or not queue.is_dead_letters)]
    found: dict[str, Queue] = {}
    for name in names:
        queue = known.get(queue_name(name)) or known.get(name)
        if queue is None:
            ours = [queue.namespace for queue in known.values() if queue.namespace is not None and not queue.is_dead_letters]
            hint = did_you_mean(name, {*ours, *known})
            raise UnknownQueue(f"no queue is named {queue_name(name)!r} or {name!r}.{hint}")
        found[queue.name] = queue
        letters = known.get(dead_letter_queue(queue.name))
        if dead_letters and letters is not None:
            found[letters.name] = letters
    return list(found.values())


def queue_states(connection: Connection, queues: Iterable[Queue], *, exact: bool = False) -> list[QueueState]:
    """Return what each queue holds; one that is dropped meanwhile is left out.

    Args:
        exact: Count every row, however many there are.
    """
    names = {queue.name for queue in find_queues(connection, dead_letters=True)}
    limit = None if exact else COUNTED_EXACTLY
    states = []
    for queue in queues:
        try:
            states.append(_state(connection, queue, dead_letter_queue(queue.name) in names, limit))
        except psycopg.errors.UndefinedTable:
            continue
    return states


def _state(connection: Connection, queue: Queue, has_dead_letters: bool, limit: int | None) -> QueueState:
    here = Source(queue.name, False)
    statement = looking_sql.STATE.format(queue=here.table, sequence=sql.Identifier("pgmq", f"{here.table_name}_msg_id_seq"))
    [(length, invisible, oldest, newest, total)] = read(connection, statement, {"limit": _one_more(limit)})
    count = _count(connection, here, limit, length)
    return QueueState(
        queue,
        count,
        # Beyond the limit there is no telling, but that it is no more than there are messages.
        Count(invisible) if limit is None or invisible <= limit else Count(count.number, exact=False),
        oldest,
        newest,
        total,
        _count(connection, Source(queue.name, True), limit) if queue.has_archive else None,
        _count(connection, Source(dead_letter_queue(queue.name), False), limit) if has_dead_letters else None,
    )


def _count(connection: Connection, source: Source, limit: int | None, counted: int | None = None) -> Count:
    if counted is None:
        [(counted,)] = read(connection, looking_sql.COUNT.format(table=source.table), {"limit": _one_more(limit)})
    return Count(counted) if limit is None or counted <= limit else _estimate(connection, source, limit)


def _one_more(limit: int | None) -> int | None:
    return None if limit is None else limit + 1


def _estimate(connection: Connection, source: Source, at_least: int) -> Count:
    plan = planned(connection, sql.SQL("select from {}").format(source.table))
    return Count(max(at_least, int(plan["Plan Rows"])), exact=False)


def last_events(
    connection: Connection,
    queue: Queue,
    count: int,
    wanted: Filter | None = None,
    *,
    high: int | None = None,
    depth: int | None = None,
    progress: Progress | None = None,
) -> list[Entry]:
    """Return the last wanted events of a queue and its archive, the oldest first.

    Args:
        high: Highest message id that may be.
        depth: How many message ids are looked at, from the last one of each table downwards; None: all.
    """
    found: list[Entry] = []
    for source in queue.sources:
        low = None if depth is None else _last_id(connection, source) - depth + 1
        found += matching(
            connection, source, wanted or Filter(), limit=count, low=low, high=high, newest_first=True, progress=progress
        )
    # Archived between the two looks, a message is found once in each table: take it from one.
    by_id = {entry.msg_id: entry for entry in sorted(found, key=lambda entry: entry.archived_at is not None)}
    return [by_id[msg_id] for msg_id in sorted(by_id)][-count:] if count else []


def _last_id(connection: Connection, source: Source) -> int:
    [(_, last)] = read(connection, looking_sql.ENDS.format(table=source.table))
    return last or 0


def find_event(connection: Connection, queues: Sequence[Queue], event_id: str, progress: Progress | None = None) -> list[Entry]:
    """Return an event from wherever it is; more than one entry if it was committed twice, which keeps its id.

    The time in the id (UUIDv7) says where to look first, so that an event which was committed soon after it fired is
    found at once. Only if it is not there, all messages are looked at.
    """
    wanted = Filter(event_id=_canonical(event_id))
    fired_at = _time_of(event_id)
    for around in _NEAR if fired_at is not None else ():
        assert fired_at is not None
        found = [
            entry
            for source in _sources(queues)
            for entry in matching(
                connection,
                source,
                wanted,
                limit=10,
                low=first_since(connection, source, fired_at - around),
                high=first_since(connection, source, fired_at + around) - 1,
                progress=progress,
            )
        ]
        if found:
            return found
    return [entry for source in _sources(queues) for entry in matching(connection, source, wanted, limit=10, progress=progress)]


def _sources(queues: Iterable[Queue]) -> Iterable[Source]:
    return itertools.chain.from_iterable(queue.sources for queue in queues)


def _canonical(event_id: str) -> str:
    try:
        return str(uuid.UUID(event_id))
    except ValueError:
        return event_id


def _time_of(event_id: str) -> datetime.datetime | None:
    """Return the time that a UUIDv7 begins with."""
    try:
        parsed = uuid.UUID(event_id)
        if parsed.version != 7:
            return None
        return datetime.datetime.fromtimestamp((parsed.int >> 80) / 1000, datetime.timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None


def trace(
    connection: Connection,
    queues: Sequence[Queue],
    correlation_id: str,
    *,
    since: datetime.datetime | None = None,
    limit: int = 1000,
    progress: Progress | None = None,
) -> list[Entry]:
    """Return all events and dead letters with a correlation id, in the order in which they fired.

    No table is read further than the limit; without an index on the correlation id, each is filtered from end to end,
    or from ``since`` on.

    Args:
        since: Only what was enqueued then or later.
        limit: How many entries at most.
    """
    wanted = Filter(correlation_id=correlation_id)
    found: list[Entry] = []
    for source in _sources(queues):
        low = None if since is None else first_since(connection, source, since - _BLUR)
        some = matching(connection, source, wanted, limit=limit - len(found), low=low, progress=progress)
        found += (entry for entry in some if since is None or entry.enqueued_at >= since)
        if len(found) >= limit:
            break
    unique = {(entry.queue, entry.msg_id): entry for entry in found}
    return sorted(unique.values(), key=lambda entry: (entry.moment, entry.enqueued_at, entry.queue, entry.msg_id))
