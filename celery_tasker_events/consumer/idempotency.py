"""Idempotency stores: remember which handler has seen which event, so that it sees it once.

A claim is taken before a handler is called and confirmed in the transaction that settles the message. So a handler sees an
event again only if it was interrupted: by an error of its own, by the end of its process, or by the loss of its lease
before the settlement was committed.
"""

from __future__ import annotations

import enum
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from celery_tasker_events.durable.queues import Connection

__all__ = ["Answer", "Claim", "IdempotencyStore", "MemoryStore"]


class Claim(NamedTuple):
    """One handler's wish to see one event.

    Attributes:
        handler: Name of the handler, with its consumer's.
        key: The event's idempotency key.
        owner: Which message asks: the same one, when it comes again, takes over its own claim.
    """

    handler: str
    key: str
    owner: str


class Answer(enum.Enum):
    """What a store says to a claim."""

    GRANTED = "granted"
    #: The handler has seen the event.
    DONE = "done"
    #: The handler is at the same event, which another message has brought.
    BUSY = "busy"


class IdempotencyStore(ABC):
    """Where a consumer remembers what its handlers have seen. Methods are called from several threads at once."""

    def prepare(self, connection: Connection, dsn: str) -> None:  # noqa: B027  # not every store needs it
        """Make ready whatever it needs; called with each new connection of the consumer to its database.

        Args:
            dsn: Of that database.
        """

    @abstractmethod
    def claim(self, claim: Claim) -> Answer:
        """Ask whether the handler may see the event now. An error makes the consumer ask again, later."""

    @abstractmethod
    def settle(self, connection: Connection, done: Sequence[Claim], released: Sequence[Claim]) -> None:
        """Confirm claims, and give others back; may be repeated.

        Args:
            connection: The consumer's own, inside the transaction that settles the messages.
        """

    def close(self) -> None:  # noqa: B027  # as above
        """Let go of what it has opened; it may be used again afterwards."""


class MemoryStore(IdempotencyStore):
    """Remembers the last events of this process; for one consumer that runs alone, or where repeats come soon.

    Args:
        size: How many claims it remembers; the oldest are forgotten.
    """

    def __init__(self, size: int = 100_000) -> None:
        if size < 1:
            raise ValueError(f"size is {size}: a store that remembers nothing is no store")
        self._size = size
        # None: the handler has seen the event; else whose claim it is.
        self._owners: OrderedDict[tuple[str, str], str | None] = OrderedDict()
        self._lock = threading.Lock()

    def claim(self, claim: Claim) -> Answer:
        with self._lock:
            owner = self._owners.setdefault(claim[:2], claim.owner)
            while len(self._owners) > self._size:
                self._owners.popitem(last=False)
        if owner is None:
            return Answer.DONE
        return Answer.GRANTED if owner == claim.owner else Answer.BUSY

    def settle(self, connection: Connection, done: Sequence[Claim], released: Sequence[Claim]) -> None:
        with self._lock:
            for claim in done:
                self._owners[claim[:2]] = None
                self._owners.move_to_end(claim[:2])
            for claim in released:
                if self._owners.get(claim[:2]) == claim.owner:
                    del self._owners[claim[:2]]
