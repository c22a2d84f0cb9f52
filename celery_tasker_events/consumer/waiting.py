"""Waiting: when to look into the queues again, and the connection that listens for what PGMQ says of new messages."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import psycopg
from psycopg import errors
from psycopg import sql as composing

from celery_tasker_events import chance
from celery_tasker_events.consumer import sql
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import Connection
from celery_tasker_events.telemetry.log import error_fields, logger

__all__ = ["Waiting"]

#: Seconds between two looks while PGMQ notifies: what it does not tell of is found then, such as messages of a consumer
#: that was killed, or those of a transaction that took longer than the throttle.
FALLBACK = 10.0

#: Seconds between two questions whether the queues notify: that can be switched, and a crash of the server forgets it.
REFRESH = 30.0

#: Seconds that a message may need from its insertion to its commit to be seen by the look after a throttled notification.
COMMIT_TIME = 0.05


class Waiting:
    """Knows when the next look is due. All but the notifications happens on the engine's thread.

    Args:
        poll_interval: Seconds between two looks where nobody notifies.
        listen: Whether to listen at all.
    """

    def __init__(self, dsn: str, queues: Sequence[str], poll_interval: float, *, listen: bool) -> None:
        self._dsn = dsn
        self._queues = queues
        self._poll_interval = poll_interval
        #: Called from the listening thread when a look is due at once.
        self.wake: Callable[[], None] = lambda: None
        self._listen = listen
        self._lock = threading.Lock()
        self._due: list[float] = []
        self._is_told = False
        self._after_throttle = float("inf")
        self._next_poll = 0.0
        self._refresh_at = 0.0
        self._listener: _Listener | None = None

    def refresh(self, connection: Connection, now: float, *, again: bool = False) -> None:
        """Ask from time to time whether the queues notify, and listen if all do.

        Args:
            again: Whether to ask now in any case.
        """
        if not self._listen or (now < self._refresh_at and not again):
            return
        self._refresh_at = now + REFRESH
        throttles = _throttles(connection)
        if all(queue in throttles for queue in self._queues):
            if self._listener is None:
                self._listener = _Listener(self._dsn, {queue: throttles[queue] for queue in self._queues}, self._notified)
        else:
            self._stop_listening()

    def is_due(self, now: float) -> bool:
        """Return whether it is time to look; if so, it is taken for done."""
        with self._lock:
            due = self._is_told or now >= min(self._next_poll, self._after_throttle)
            self._is_told = False
            if now >= self._after_throttle:
                self._after_throttle = float("inf")
            while self._due and self._due[0] <= now:
                heapq.heappop(self._due)
                due = True
        if due:
            self._next_poll = now + self._interval() * chance.between(0.8, 1.2)
        return due

    def next_look(self) -> float:
        """Return when the next look is due, by the monotonic clock."""
        with self._lock:
            if self._is_told:
                return 0.0
            return min(self._next_poll, self._after_throttle, *self._due[:1])

    def look_at(self, moment: float) -> None:
        """Plan a look, by the monotonic clock."""
        with self._lock:
            heapq.heappush(self._due, moment)

    @property
    def has_plans(self) -> bool:
        """Whether a look is planned, beside those that come at intervals."""
        return bool(self._due) or self._after_throttle < float("inf")

    @property
    def is_listening(self) -> bool:
        return self._listener is not None and self._listener.is_listening

    def close(self) -> None:
        self._stop_listening()

    def _interval(self) -> float:
        return max(self._poll_interval, FALLBACK) if self.is_listening else self._poll_interval

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.stop()
            self._listener = None

    def _notified(self, throttle: float) -> None:
        with self._lock:
            self._is_told = True
            if throttle:
                # What is inserted within the throttle's time after a notification is not told of.
                self._after_throttle = time.monotonic() + throttle + COMMIT_TIME
        self.wake()


def _throttles(connection: Connection) -> Mapping[str, float]:
    """The queues that notify, with the seconds in which each does so once at most."""
    row = connection.execute(sql.FUNCTIONS).fetchone()
    assert row is not None
    if not row[2]:
        return {}
    try:
        rows = connection.execute(sql.NOTIFY_THROTTLES).fetchall()
    except errors.InsufficientPrivilege:  # who may read the queues need not be allowed to know whether they notify
        return {}
    return {queue: milliseconds / 1000 for queue, milliseconds in rows}


class _Listener:
    """A thread and a connection that listen until they are stopped, or lose the connection and make a new one."""

    def __init__(self, dsn: str, throttles: Mapping[str, float], notified: Callable[[float], None]) -> None:
        self._dsn = dsn
        self._throttles = {f"pgmq.q_{queue}.INSERT": throttle for queue, throttle in throttles.items()}
        self._notified = notified
        self._stopping = threading.Event()
        self.is_listening = False
        threading.Thread(target=self._run, name="tasker-events-listener", daemon=True).start()

    def stop(self) -> None:
        """Tell the thread to end; it does so within a second."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with connect(self._dsn) as connection:
                    self._listen(connection)
            except psycopg.Error as error:
                # The engine tells when the database is gone; meanwhile there is polling.
                logger.debug("Listening for new messages ended: %s", error, extra=error_fields(error))
            finally:
                self.is_listening = False
            self._stopping.wait(chance.between(0.5, 1.5))

    def _listen(self, connection: Connection) -> None:
        for channel in self._throttles:
            connection.execute(composing.SQL("listen {}").format(composing.Identifier(channel)))
        self.is_listening = True
        # What came before the connection listened was told to nobody.
        self._notified(0.0)
        while not self._stopping.is_set():
            for notification in connection.notifies(timeout=1.0, stop_after=1):
                self._notified(self._throttles.get(notification.channel, 0.0))
