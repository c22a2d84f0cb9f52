"""Leases: which messages this process has read, and until when they are its own, by its own clock."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from celery_tasker_events.consumer.delivery import Message

__all__ = ["Leases"]

#: The end of a lease that is known to be no more.
LOST = float("-inf")


@dataclass
class _Lease:
    message: Message
    read_count: int
    ends_at: float


class Leases:
    """The messages that are read and not settled yet; safe to ask from any thread.

    A lease is counted from before its statement was sent, so it ends here before it ends in Postgres.

    Args:
        visibility_timeout: Whole seconds that a lease lasts, unless it is extended.
    """

    def __init__(self, visibility_timeout: int) -> None:
        self.visibility_timeout = visibility_timeout
        self._leases: dict[tuple[str, int], _Lease] = {}
        self._lock = threading.Lock()
        self._extended_at = 0.0

    def add(self, messages: Iterable[Message], asked_at: float) -> list[Message]:
        """Note messages that were read; return those that were not held yet.

        The others are those whose lease had ended while this process was still about them: it has them again.

        Args:
            asked_at: Monotonic clock, in seconds, before the statement was sent.
        """
        new = []
        with self._lock:
            if not self._leases:
                self._extended_at = asked_at
            for message in messages:
                lease = self._leases.get(message.key)
                if lease is None:
                    new.append(message)
                    lease = self._leases[message.key] = _Lease(message, message.read_count, 0.0)
                lease.read_count, lease.ends_at = message.read_count, asked_at + self.visibility_timeout
        return new

    def holds(self, message: Message, now: float) -> bool:
        """Return whether the message is this process' own, so far as it knows."""
        with self._lock:
            lease = self._leases.get(message.key)
            return lease is not None and now < lease.ends_at

    def end(self, messages: Iterable[Message]) -> None:
        """Forget messages that are settled."""
        with self._lock:
            for message in messages:
                self._leases.pop(message.key, None)

    def __len__(self) -> int:
        return len(self._leases)

    def next_extension(self) -> float | None:
        """Return when leases should be extended, by the monotonic clock; None if there are none.

        That is after a third of their time, so that two extensions may fail.
        """
        return self._extended_at + self.visibility_timeout / 3 if self._leases else None

    def by_queue(self) -> dict[str, list[int]]:
        """The ids of all messages that are held and not lost, by queue."""
        ids: dict[str, list[int]] = {}
        with self._lock:
            for lease in self._leases.values():
                if lease.ends_at != LOST:
                    ids.setdefault(lease.message.queue, []).append(lease.message.message_id)
        return ids

    def expire(self, now: float) -> list[Message]:
        """Take for lost what was not extended in time, and return it.

        It may not be extended any more: another consumer can have read it, and its lease would be changed.
        """
        with self._lock:
            late = [lease for lease in self._leases.values() if LOST < lease.ends_at <= now]
            for lease in late:
                lease.ends_at = LOST
        return [lease.message for lease in late]

    def extend(self, queue: str, asked: Collection[int], answered: Mapping[int, int], asked_at: float) -> list[Message]:
        """Note what an extension has said; return the messages that turned out to be lost.

        Args:
            asked: Ids that were to be extended.
            answered: Their read counts in the queue: a greater one means that another consumer has read the message,
                none that it has been removed.
        """
        lost = []
        with self._lock:
            for message_id in asked:
                lease = self._leases.get((queue, message_id))
                if lease is None:
                    continue
                if answered.get(message_id) == lease.read_count:
                    lease.ends_at = asked_at + self.visibility_timeout
                else:
                    lease.ends_at = LOST
                    lost.append(lease.message)
        return lost

    def extended(self, at: float) -> None:
        """Note that an extension of all leases was sent, whatever came of it."""
        with self._lock:
            self._extended_at = at
