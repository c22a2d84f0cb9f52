"""Streams: events as they come, as server-sent events; a page that is too slow misses some and is told how many."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from celery_tasker_events.console.feed import Feed
from celery_tasker_events.console.filtering import Wanted
from celery_tasker_events.console.rows import row_of
from celery_tasker_events.consumer.entry import Entry

__all__ = ["Streams"]

#: Events that wait for one page at most.
BUFFERED = 500

#: Pages that are served at once.
OPEN_AT_MOST = 64

#: Seconds after which a silent stream says that it is there, and looks whether the database is.
HEARTBEAT = 2.0


class Streams:
    """All open streams of a server. Belongs to its event loop, except where a method says otherwise."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._open: set[_Stream] = set()
        self._is_closing = False

    @property
    def is_full(self) -> bool:
        """Whether no more pages are served."""
        return self._is_closing or len(self._open) >= OPEN_AT_MOST

    async def events(self, wanted: Wanted) -> AsyncIterator[str]:
        """Yield the text of a stream until its reader goes or the server ends."""
        stream = _Stream(wanted, asyncio.get_running_loop())
        self._open.add(stream)
        self._feed.listen(stream.offer)
        told: str | None = None
        try:
            yield "retry: 1000\n\n"
            while not self._is_closing:
                for name, data in stream.taken():
                    yield f"event: {name}\ndata: {json.dumps(data)}\n\n"
                if told != (told := self._feed.watcher.trouble):
                    yield f"event: trouble\ndata: {json.dumps(told)}\n\n"
                if not await stream.wait(HEARTBEAT):
                    yield ": still here\n\n"
        finally:
            self._feed.leave(stream.offer)
            self._open.discard(stream)

    def close(self) -> None:
        """End all streams; may be called from a signal handler on the loop's thread."""
        self._is_closing = True
        for stream in tuple(self._open):
            stream.wake()


class _Stream:
    def __init__(self, wanted: Wanted, loop: asyncio.AbstractEventLoop) -> None:
        self._wanted = wanted
        self._loop = loop
        self._waiting: deque[dict[str, Any]] = deque()
        self._missed = 0
        self._arrived = asyncio.Event()

    def offer(self, entries: list[Entry], is_recent: bool) -> None:
        """Called on the feed's thread."""
        rows = [{**row_of(entry), "is_recent": is_recent} for entry in entries if self._wanted.matches(entry)]
        if rows:
            try:
                self._loop.call_soon_threadsafe(self._put, rows)
            except RuntimeError:  # the loop has just ended
                return

    def _put(self, rows: list[dict[str, Any]]) -> None:
        self._waiting.extend(rows)
        while len(self._waiting) > BUFFERED:
            self._waiting.popleft()
            self._missed += 1
        self._arrived.set()

    def taken(self) -> list[tuple[str, Any]]:
        """What has come since the last call, as names and data of server-sent events."""
        told: list[tuple[str, Any]] = []
        if self._missed:
            told.append(("missed", self._missed))
            self._missed = 0
        if self._waiting:
            told.append(("events", list(self._waiting)))
            self._waiting.clear()
        return told

    async def wait(self, timeout: float) -> bool:
        """Wait until something comes; False after the timeout, in seconds."""
        try:
            await asyncio.wait_for(self._arrived.wait(), timeout)
        except asyncio.TimeoutError:
            return False
        self._arrived.clear()
        return True

    def wake(self) -> None:
        self._loop.call_soon_threadsafe(self._arrived.set)
