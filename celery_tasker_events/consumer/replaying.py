"""Replays archived events: sends what a filter wants once more, in order, and can go on where it was interrupted."""

from __future__ import annotations

import datetime
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from celery_tasker_events.bus.pattern import Pattern
from celery_tasker_events.consumer import looking_sql, replaying_sql
from celery_tasker_events.consumer.delivery import Unreadable
from celery_tasker_events.consumer.destinations import Destination
from celery_tasker_events.consumer.entry import Entry
from celery_tasker_events.consumer.looking import Queue
from celery_tasker_events.consumer.marking import Mark, MarkedEvent
from celery_tasker_events.consumer.scanning import Filter, Progress, Source, chunks, first_since, matching, read
from celery_tasker_events.durable.queues import Connection
from celery_tasker_events.durable.sql import LOCK_SETUP
from celery_tasker_events.errors import TaskerEventsError
from celery_tasker_events.event import new_event_id

__all__ = ["Portion", "Replay", "ReplayError", "Report", "begin", "count", "find_portions", "first_events", "resume"]

#: Reasons that are kept of events that were left out.
REASONS = 10

#: How far beyond a moment its messages are looked for: a long transaction blurs the border.
_BLUR = datetime.timedelta(minutes=10)

Row = tuple[int, str | None, str | None]


class ReplayError(TaskerEventsError):
    """A replay can't begin or go on as it was asked to."""


@dataclass(frozen=True)
class Portion:
    """The part of a replay that is in one queue's archive.

    Attributes:
        first_id: Lowest message id that is looked at.
        done_up_to: Message id up to which all is sent.
        last_id: Highest message id that is looked at. What a replay sends is archived above it and does not come back.
    """

    queue: str
    first_id: int
    done_up_to: int
    last_id: int

    @property
    def source(self) -> Source:
        return Source(self.queue, True)


@dataclass
class Report:
    """What a run of a replay did.

    Attributes:
        replayed: How many events were sent, by name.
        left_out: How many messages of the archive are no domain events.
        reasons: Why, of the first of them.
    """

    replayed: Counter[str] = field(default_factory=Counter)
    left_out: int = 0
    reasons: list[str] = field(default_factory=list)


def find_portions(connection: Connection, queues: Sequence[Queue], wanted: Filter) -> list[Portion]:
    """Return where the wanted events may be: the archives as they are now, between the moments of the filter."""
    found = []
    for queue in queues:
        if not queue.has_archive or queue.is_dead_letters:
            continue
        source = Source(queue.name, True)
        [(first, last)] = read(connection, looking_sql.ENDS.format(table=source.table))
        if first is None:
            continue
        if wanted.since is not None:
            first = max(first, first_since(connection, source, wanted.since - _BLUR))
        if wanted.until is not None:
            last = min(last, first_since(connection, source, wanted.until + _BLUR) - 1)
        if first <= last:
            found.append(Portion(queue.name, first, first - 1, last))
    return found


def count(
    connection: Connection, portions: Sequence[Portion], wanted: Filter, progress: Progress | None = None
) -> Counter[tuple[str, str]]:
    """Return how many events are wanted, by queue and name."""
    found: Counter[tuple[str, str]] = Counter()
    for portion in portions:
        source = portion.source
        statement = replaying_sql.NAMES.format(
            event_name=looking_sql.EVENT_NAME, table=source.table, condition=wanted.condition(source)
        )
        for after, up_to in chunks(connection, source, portion.done_up_to + 1, portion.last_id, progress=progress):
            rows = read(connection, statement, {**wanted.parameters(), "after": after, "up_to": up_to})
            found.update({(portion.queue, name or ""): number for name, number in rows})
    return found


def first_events(connection: Connection, portions: Sequence[Portion], wanted: Filter, limit: int) -> list[Entry]:
    """Return the first events that a replay would send."""
    found: list[Entry] = []
    for portion in portions:
        low, high = portion.done_up_to + 1, portion.last_id
        found += matching(connection, portion.source, wanted, limit=limit - len(found), low=low, high=high)
    return found


def begin(connection: Connection, portions: Sequence[Portion], wanted: Filter, destination: Destination) -> Replay:
    """Note a new replay in the database's journal, a table that is made if it is missing.

    Raises:
        psycopg.errors.InsufficientPrivilege: if the role may not make it or write to it.
    """
    replay_id, selection = new_event_id(), json.dumps(_as_json(wanted))
    began_at = datetime.datetime.now(datetime.timezone.utc)
    with connection.transaction():
        if connection.execute(replaying_sql.JOURNAL_EXISTS).fetchone() != (True,):
            connection.execute(LOCK_SETUP)
            connection.execute(replaying_sql.CREATE_JOURNAL)
        connection.execute(replaying_sql.FORGET)
        for portion in portions:
            row = [replay_id, portion.queue, destination.name, selection]
            ids = [portion.first_id, portion.done_up_to, portion.last_id]
            [(began_at,)] = connection.execute(replaying_sql.BEGIN, [*row, *ids]).fetchall()
    return Replay(connection, Mark(replay_id, began_at.astimezone(datetime.timezone.utc)), portions, wanted)


def resume(connection: Connection, replay_id: str, destination: Destination) -> Replay:
    """Return a replay that was interrupted, as it began, to go on with it.

    Raises:
        ReplayError: if there is none, or it went elsewhere.
    """
    exists = connection.execute(replaying_sql.JOURNAL_EXISTS).fetchone() == (True,)
    rows = connection.execute(replaying_sql.PORTIONS, [replay_id]).fetchall() if exists else []
    if not rows:
        raise ReplayError(f"there is no replay {replay_id!r} in this database; replays are remembered for 30 days")
    _, name, wanted, began_at, *_ = rows[0]
    if name != destination.name:
        raise ReplayError(f"replay {replay_id!r} goes to the {name}, not to the {destination.name}")
    portions = [Portion(queue, *ids) for queue, _, _, _, *ids in rows]
    return Replay(connection, Mark(replay_id, began_at.astimezone(datetime.timezone.utc)), portions, _from_json(wanted))


class Replay:
    """One replay, that has begun."""

    def __init__(self, connection: Connection, mark: Mark, portions: Sequence[Portion], wanted: Filter) -> None:
        self._connection = connection
        self._mark = mark
        self._wanted = wanted
        self.portions = portions
        #: What this run has done so far.
        self.report = Report()

    @property
    def replay_id(self) -> str:
        return self._mark.replay_id

    def run(
        self,
        destination: Destination,
        *,
        rate: float | None = None,
        progress: Progress | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> Report:
        """Send all that is left; queue by queue, and of each queue in the order of its archive.

        Args:
            rate: Events a second at most; None: as fast as it goes.
            progress: Told after each batch.

        Raises:
            ReplayError: if another process goes on with the same replay.
        """
        began = time.monotonic()
        size = destination.batch_size if rate is None else max(1, min(destination.batch_size, int(rate)))
        for portion in self.portions:
            for rows, up_to in self._batches(portion, size):
                portion = self._send(destination, portion, rows, up_to)
                if progress is not None:
                    first = portion.first_id - 1
                    progress(str(portion.source), up_to - first, portion.last_id - first)
                if rate is not None:
                    sleep(max(0.0, began + self.report.replayed.total() / rate - time.monotonic()))
        return self.report

    def _batches(self, portion: Portion, size: int) -> Iterator[tuple[list[Row], int]]:
        """Yield what is to be sent, and up to which id that is all; also where that is nothing."""
        source = portion.source
        statement = replaying_sql.IN_CHUNK.format(table=source.table, condition=self._wanted.condition(source))
        for after, border in chunks(self._connection, source, portion.done_up_to + 1, portion.last_id):
            while after < border:
                asked = {**self._wanted.parameters(), "after": after, "up_to": border, "limit": size}
                rows = read(self._connection, statement, asked)
                after = rows[-1][0] if len(rows) == size else border
                yield rows, after

    def _send(self, destination: Destination, portion: Portion, rows: Sequence[Row], up_to: int) -> Portion:
        batch, reasons = self._marked(portion, rows)
        if batch:
            destination.deliver(batch)
        with self._connection.transaction():
            ids = {"after": portion.done_up_to, "up_to": up_to}
            step = {"replay_id": self.replay_id, "queue": portion.queue, **ids}
            if self._connection.execute(replaying_sql.ADVANCE, step).fetchone() is None:
                raise ReplayError(f"another process goes on with replay {self.replay_id!r}")
            if batch:
                destination.write(self._connection, batch)
        self.report.replayed.update(marked.event.event_name for marked in batch)
        self.report.left_out += len(reasons)
        self.report.reasons += reasons[: max(0, REASONS - len(self.report.reasons))]
        return replace(portion, done_up_to=up_to)

    def _marked(self, portion: Portion, rows: Sequence[Row]) -> tuple[list[MarkedEvent], list[str]]:
        batch, reasons = [], []
        for message_id, body, headers in rows:
            try:
                batch.append(self._mark.put_on(portion.queue, message_id, body, headers))
            except Unreadable as error:
                reasons.append(f"{portion.source}, message {message_id}: {error}")
        return batch, reasons


def _as_json(wanted: Filter) -> dict[str, Any]:
    return {
        "event": wanted.event and wanted.event.text,
        "outcome": wanted.outcome,
        "correlation_id": wanted.correlation_id,
        "event_id": wanted.event_id,
        "since": wanted.since and wanted.since.isoformat(),
        "until": wanted.until and wanted.until.isoformat(),
    }


def _from_json(said: Any) -> Filter:
    since, until = (said[name] and datetime.datetime.fromisoformat(said[name]) for name in ("since", "until"))
    pattern = None if said["event"] is None else Pattern(said["event"])
    return Filter(pattern, said["outcome"], said["correlation_id"], said["event_id"], since, until, originals=True)
