"""Several databases as one durable path: each has a writer of its own, so that one that is away holds up no other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.durable.writer import DurableWriter
from celery_tasker_events.telemetry.gauge import ConnectionState

__all__ = ["Databases"]


class Databases:
    """Hands each message to the writer of its namespace.

    Args:
        by_namespace: The writers of the namespaces that have a database of their own.
        others: The writer of all other namespaces.
    """

    def __init__(self, by_namespace: Mapping[str, DurableWriter], others: DurableWriter) -> None:
        self._by_namespace = by_namespace
        self._others = others
        self.writers = tuple(dict.fromkeys((others, *by_namespace.values())))

    def send(self, message: DurableMessage) -> None:
        """Queue the message; it is committed soon."""
        self._by_namespace.get(message.fields["namespace"], self._others).send(message)

    @property
    def connection(self) -> ConnectionState:
        """How the last attempts to reach them went: down if one of them is."""
        return max(writer.connection for writer in self.writers)

    def prepare(self, namespace: str) -> None:
        """Start on the caller's thread what the events of a namespace need."""
        self._by_namespace.get(namespace, self._others).prepare()

    def start(self) -> None:
        """Look for what dead processes left on disk, for each database."""
        for writer in self.writers:
            writer.start()

    def depth(self) -> int:
        """How many messages of this process are not committed yet."""
        return sum(writer.depth() for writer in self.writers)

    def watch(self) -> float | None:
        """Save what waits behind commits that do not return; return after how many seconds to look again, if at all."""
        return min((patience for writer in self.writers if (patience := writer.watch()) is not None), default=None)

    def save(self) -> None:
        """Put all that is not committed yet on disk, at once."""
        for writer in self.writers:
            writer.save()

    def drain(self, timeout: float) -> bool:
        """Wait up to that many seconds until all that was sent is committed; return whether it is."""
        return self._each(lambda writer, left: writer.drain(left), timeout)

    def close(self, timeout: float) -> bool:
        """Drain, then end the threads and close the pools; return whether all is committed."""
        return self._each(lambda writer, left: writer.close(left), timeout)

    def _each(self, call: Callable[[DurableWriter, float], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        # Every one is called, even if one before it took all the time.
        ended = [call(writer, max(0.0, deadline - time.monotonic())) for writer in self.writers]
        return all(ended)
