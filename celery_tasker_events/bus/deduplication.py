"""The events that have been seen lately, so that a redelivered one is not handed on again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from celery_tasker_events.event import DomainEvent

__all__ = ["SeenEvents"]


class SeenEvents:
    """Remembers the events that came, or came again, most recently. Not thread-safe.

    Args:
        size: How many event ids, and as many idempotency keys, are remembered; 0: none.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._ids: OrderedDict[Hashable, None] = OrderedDict()
        self._keys: OrderedDict[Hashable, None] = OrderedDict()

    def has(self, event: DomainEvent) -> bool:
        """Whether an event with its id or with its idempotency key came before."""
        # Both, for both are to be remembered longer.
        known = (_touch(self._ids, event.event_id), _touch(self._keys, _key(event)))
        return any(known)

    def add(self, event: DomainEvent) -> None:
        if self._size:
            self._remember(self._ids, event.event_id)
            self._remember(self._keys, _key(event))

    def _remember(self, seen: OrderedDict[Hashable, None], mark: Hashable) -> None:
        seen[mark] = None
        if len(seen) > self._size:
            seen.popitem(last=False)


def _touch(seen: OrderedDict[Hashable, None], mark: Hashable) -> bool:
    if mark not in seen:
        return False
    seen.move_to_end(mark)
    return True


def _key(event: DomainEvent) -> Hashable:
    # A key that a caller of events.publish chose, an order's number say, may come with several names; and one step may
    # publish one name into two namespaces.
    return event.event_name, event.metadata.namespace, event.metadata.idempotency_key
