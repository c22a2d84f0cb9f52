"""The streams that are open in one process."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Sequence

from celery_tasker_events.bus.matching import MatchCache
from celery_tasker_events.bus.pattern import patterns_of
from celery_tasker_events.bus.stream import EventStream, OnLag, StreamBuffer
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.log import RateLimitedWarning, dropped_fields, event_fields

__all__ = ["OpenStreams"]


class OpenStreams:
    """Hands each event to the buffers that match. A stream whose reader is gone is forgotten.

    Args:
        buffer_size: How many events wait for a stream's reader, unless it asks for another number.
    """

    def __init__(self, counters: Counters, *, buffer_size: int, log_dropped: bool) -> None:
        self._counters = counters
        self._buffer_size = buffer_size
        self._lagged = RateLimitedWarning("%d events lost by event streams: their readers are too slow") if log_dropped else None
        self._lock = threading.Lock()
        self._buffers: tuple[StreamBuffer, ...] = ()
        self._found: MatchCache[StreamBuffer] = MatchCache()
        self._ended = False

    def open(self, patterns: Iterable[str], buffer_size: int | None, on_lag: OnLag | None) -> EventStream:
        """Return a stream that gets the events from now on.

        Raises:
            ValueError: if a pattern or the buffer's size is bad.
        """
        size: object = self._buffer_size if buffer_size is None else buffer_size
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"buffer_size must be a whole number from 1 on, not {size!r}")
        if on_lag is not None and not callable(on_lag):
            raise TypeError(f"on_lag must be a function that takes the number of lost events, not {on_lag!r}")
        buffer = StreamBuffer(patterns_of(patterns), size)
        with self._lock:
            if self._ended:
                buffer.end(discard=True)
            else:
                self._buffers = (*(b for b in self._buffers if not b.closed), buffer)
        return EventStream(buffer, on_lag)

    def matching(self, event_name: str) -> tuple[StreamBuffer, ...]:
        """The buffers that want the event."""
        if not self._buffers:
            return ()
        found = self._found.find(event_name, self._buffers)
        if any(buffer.closed for buffer in found):
            with self._lock:
                self._buffers = tuple(buffer for buffer in self._buffers if not buffer.closed)
            found = self._found.find(event_name, self._buffers)
        return found

    def offer(self, event: DomainEvent, buffers: Iterable[StreamBuffer], mode: str) -> Sequence[tuple[DomainEvent, str]]:
        """Put the event into the buffers, without waiting; return what full ones have lost for it, with its delivery mode."""
        return [lost for buffer in buffers if (lost := buffer.offer(event, mode)) is not None]

    def tell_lost(self, lost: Iterable[tuple[DomainEvent, str]]) -> None:
        """Count and log what full buffers have lost."""
        for event, mode in lost:
            self._counters.add("dropped", event.event_name, event.metadata.namespace, "stream lagged", mode=mode)
            if self._lagged:
                self._lagged.add(fields=functools.partial(dropped_fields, event_fields(event), "stream lagged"))

    def end(self) -> None:
        """End all streams; what their readers have not read yet, they still can."""
        with self._lock:
            self._ended = True
            for buffer in self._buffers:
                buffer.end(discard=False)
