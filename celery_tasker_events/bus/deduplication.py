"""The events that have been seen lately, so that a redelivered one is not handed on again."""

from __future__ import annotations

from collections import OrderedDict

from celery_tasker_events.event import DomainEvent

__all__ = ["SeenEvents"]


class SeenEvents:
    """Remembers the events that came, or came again, most recently. Not thread-safe.

    Args:
        size: How many event ids, and as many idempotency keys, are remembered; 0: none.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        # By their hashes: those have 64 bits, and the names themselves would take half as much memory again.
        self._ids: OrderedDict[int, None] = OrderedDict()
        self._keys: OrderedDict[int, None] = OrderedDict()

    def has(self, event: DomainEvent) -> bool:
        """Whether an event with its id or with its idempotency key came before."""
        return self._touch(hash(event.event_id), _key(event))

    def add(self, event: DomainEvent) -> bool:
        """Remember the event; return False if it :meth:`has` come before."""
        if not self._size:
            return True
        ids, keys, event_id, key = self._ids, self._keys, hash(event.event_id), _key(event)
        if (event_id in ids or key in keys) and self._touch(event_id, key):
            return False
        ids[event_id] = keys[key] = None
        if len(ids) > self._size:
            ids.popitem(last=False)
        if len(keys) > self._size:
            keys.popitem(last=False)
        return True

    def _touch(self, event_id: int, key: int) -> bool:
        known = False
        # Both, for both are to be remembered longer.
        for seen, mark in ((self._ids, event_id), (self._keys, key)):
            if mark in seen:
                seen.move_to_end(mark)
                known = True
        return known


def _key(event: DomainEvent) -> int:
    # A key that a caller of events.publish chose, an order's number say, may come with several names; and one step may
    # publish one name into two namespaces.
    metadata = event.metadata
    return hash((event.event_name, metadata.namespace, metadata.idempotency_key))
