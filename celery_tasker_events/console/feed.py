"""Feed: one follower of all queues for all open pages, however many; it rests while none is open."""

from __future__ import annotations

import threading
from collections.abc import Callable

from celery_tasker_events.console.watching import Watcher
from celery_tasker_events.consumer.entry import Entry
from celery_tasker_events.consumer.following import Follower
from celery_tasker_events.consumer.looking import Queue, find_queues
from celery_tasker_events.durable.queues import Connection
from celery_tasker_events.errors import UnknownQueue

__all__ = ["Feed", "Listener"]

#: Seconds between two looks.
INTERVAL = 0.5

#: How many of its last events a queue begins with: those may have come while a page was made.
RECENT = 100

#: Called on the feed's thread with what has come, in order of their ids, and whether that may have been there before.
Listener = Callable[[list[Entry], bool], None]


class Feed:
    """Tells each listener of all events as they are committed, and once of the last ones of before it began to look."""

    def __init__(self, dsn: str) -> None:
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        self._followers: dict[Queue, Follower] = {}
        self.watcher = Watcher("feed", dsn, self._look, INTERVAL)

    def listen(self, listener: Listener) -> None:
        """Tell it from now on."""
        with self._lock:
            self._listeners.append(listener)
        self.watcher.hurry()

    def leave(self, listener: Listener) -> None:
        """Tell it no more."""
        with self._lock:
            self._listeners.remove(listener)

    def _look(self, connection: Connection) -> None:
        if not self._listeners:
            self._followers.clear()
            return
        queues = find_queues(connection)
        self._followers = {queue: self._followers[queue] for queue in queues if queue in self._followers}
        begins = not self._followers
        for queue in queues:
            self._tell(self._new_of(connection, queue), begins)
        if any(follower.is_behind for follower in self._followers.values()):
            self.watcher.hurry()

    def _new_of(self, connection: Connection, queue: Queue) -> list[Entry]:
        try:
            follower = self._followers.get(queue)
            if follower is not None:
                return follower.poll(connection)
            follower = Follower(queue)
            entries = follower.begin(connection, RECENT)
            self._followers[queue] = follower
            return entries
        except UnknownQueue:  # dropped since the queues were listed
            self._followers.pop(queue, None)
            return []

    def _tell(self, entries: list[Entry], begins: bool) -> None:
        if entries:
            with self._lock:
                listeners = list(self._listeners)
            for listener in listeners:
                listener(entries, begins)
