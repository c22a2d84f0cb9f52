"""Watcher: a thread that looks at the database again and again, and outlives its outages."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg

from celery_tasker_events.consumer.looking import connect_to_look
from celery_tasker_events.durable.queues import Connection
from celery_tasker_events.errors import TaskerEventsError
from celery_tasker_events.telemetry.log import logger

__all__ = ["Watcher"]

#: Seconds that a look has to end when it is told to; one at a frozen server does not.
PATIENCE = 2.0

#: Seconds after which a database that could not be used is tried again at most.
LAST_BACKOFF = 5.0


class Watcher:
    """Calls a function with a connection of its own, which cannot write, until it is stopped.

    Args:
        look: Called once in each interval; what of psycopg's or the house's errors it raises is an outage.
        interval: Seconds between two looks.
    """

    def __init__(self, name: str, dsn: str, look: Callable[[Connection], None], interval: float) -> None:
        self._dsn = dsn
        self._look = look
        self._interval = interval
        self._stopping = threading.Event()
        self._wanted = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"tasker-events-{name}", daemon=True)
        #: Why the last look failed; None if it did not.
        self.trouble: str | None = None

    def start(self) -> None:
        self._thread.start()

    def hurry(self) -> None:
        """Look at once."""
        self._wanted.set()

    def stop(self) -> None:
        """End the thread and its connection, as far as they can be ended."""
        self._stopping.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE)

    def _run(self) -> None:
        backoff = self._interval
        while not self._stopping.is_set():
            try:
                with connect_to_look(self._dsn) as connection:
                    while not self._stopping.is_set():
                        self._look(connection)
                        self.trouble, backoff = None, self._interval
                        self._rest(self._interval)
            except (psycopg.Error, TaskerEventsError) as error:
                told, self.trouble = self.trouble, str(error).strip()
                if told != self.trouble:
                    logger.warning("The console can't look at the database: %s", self.trouble)
                self._rest(backoff)
                backoff = min(2 * backoff, LAST_BACKOFF)

    def _rest(self, seconds: float) -> None:
        self._wanted.wait(seconds)
        self._wanted.clear()
