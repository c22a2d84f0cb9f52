"""A pull stream: a bounded buffer that the bus fills, and a reader that takes from it at its own pace."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType

from celery_tasker_events.bus.pattern import Pattern
from celery_tasker_events.errors import StreamClosed
from celery_tasker_events.event import DomainEvent

__all__ = ["EventStream", "StreamBuffer"]

OnLag = Callable[[int], object]


class StreamBuffer:
    """The bus' side of a stream: the newest events, and how many older ones had to go.

    Args:
        size: How many events may wait for the reader.
    """

    def __init__(self, patterns: Sequence[Pattern], size: int) -> None:
        self.patterns = tuple(patterns)
        self.size = size
        self.arrived = threading.Condition()
        #: With their delivery modes.
        self.events: deque[tuple[DomainEvent, str]] = deque()
        self.lagged = 0
        self.untold = 0
        self.ended = False
        #: Set without the lock, for the garbage collector may come at any moment: nobody reads any more.
        self.abandoned = False
        self._sleepers: set[asyncio.Future[None]] = set()

    @property
    def closed(self) -> bool:
        return self.ended or self.abandoned

    @property
    def name(self) -> str:
        return ", ".join(pattern.text for pattern in self.patterns)

    def matches(self, event_name: str) -> bool:
        return any(pattern.matches(event_name) for pattern in self.patterns)

    def offer(self, event: DomainEvent, mode: str = "") -> tuple[DomainEvent, str] | None:
        """Add an event without waiting; return the oldest one, and its delivery mode, if that had to go."""
        with self.arrived:
            if self.closed:
                return None
            lost = self.events.popleft() if len(self.events) >= self.size else None
            if lost is not None:
                self.lagged += 1
                self.untold += 1
            self.events.append((event, mode))
            self._wake()
            return lost

    def end(self, *, discard: bool) -> None:
        """No more events will come. What is there already can still be read, or is discarded."""
        with self.arrived:
            self.ended = True
            if discard:
                self.events.clear()
                self.untold = 0
            self._wake()

    def add_sleeper(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Return a future that is done when there is news; with the lock held."""
        future = loop.create_future()
        self._sleepers.add(future)
        return future

    async def sleep(self, woken: asyncio.Future[None], timeout: float | None) -> bool:
        """Wait up to that many seconds until a sleeper is woken; return whether it was."""
        try:
            done, _ = await asyncio.wait({woken}, timeout=None if timeout is None else max(0.0, timeout))
            return bool(done)
        finally:
            with self.arrived:
                self._sleepers.discard(woken)

    def _wake(self) -> None:
        self.arrived.notify_all()
        for future in self._sleepers:
            try:
                future.get_loop().call_soon_threadsafe(_finish, future)
            except RuntimeError:  # the reader's loop is closed, and the reader with it
                pass
        self._sleepers.clear()


class EventStream:
    """The events that match, one after the other: ``for event in stream``, ``async for event in stream``, or ``get()``.

    A reader that is too slow loses the oldest events first. It learns how many by :attr:`lagged` and by ``on_lag``. Several
    threads that read one stream share its events.

    Made by ``DomainEvents.stream``. Close it, use it as a context manager, or just drop it.
    """

    def __init__(self, buffer: StreamBuffer, on_lag: OnLag | None) -> None:
        self._buffer = buffer
        self._on_lag = on_lag
        # An inherited buffer's lock may be held for ever in a forked child, and no events come there: it is never touched.
        self._pid = os.getpid()

    @property
    def lagged(self) -> int:
        """How many events this stream has lost so far because its buffer was full."""
        return self._buffer.lagged

    @property
    def closed(self) -> bool:
        """Whether no more events will come; some may still wait to be read."""
        return self._buffer.closed or self._is_inherited()

    def get(self, timeout: float | None = None) -> DomainEvent:
        """Return the next event, and wait for it if need be.

        Args:
            timeout: Seconds to wait; None: as long as it takes; 0: not at all.

        Raises:
            TimeoutError: if no event came in time.
            StreamClosed: if the stream has ended.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._check_process()
            with self._buffer.arrived:
                lost, event = self._take()
                if not lost and event is None:
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        raise TimeoutError(self._no_event(timeout))
                    self._buffer.arrived.wait(left)
            if event is not None:
                return event
            self._tell(lost)

    async def aget(self, timeout: float | None = None) -> DomainEvent:
        """The same as :meth:`get`, for coroutines: the event loop goes on while it waits."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while True:
            self._check_process()
            with self._buffer.arrived:
                lost, event = self._take()
                woken = None if lost or event else self._buffer.add_sleeper(loop)
            if event is not None:
                return event
            self._tell(lost)
            if woken is not None:
                left = None if deadline is None else deadline - loop.time()
                if not await self._buffer.sleep(woken, left):
                    raise TimeoutError(self._no_event(timeout))

    def close(self) -> None:
        """End the stream: what waits in it is discarded, and whoever waits for it is woken. From any thread, any time."""
        if not self._is_inherited():
            self._buffer.end(discard=True)

    def __iter__(self) -> EventStream:
        return self

    def __next__(self) -> DomainEvent:
        try:
            return self.get()
        except StreamClosed:
            raise StopIteration from None

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> DomainEvent:
        try:
            return await self.aget()
        except StreamClosed:
            raise StopAsyncIteration from None

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> EventStream:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        self._buffer.abandoned = True

    def _take(self) -> tuple[int, DomainEvent | None]:
        # The reader is told of a gap before it gets what came after the gap.
        buffer = self._buffer
        lost, buffer.untold = buffer.untold, 0
        if lost and self._on_lag is not None:
            return lost, None
        if buffer.events:
            return 0, buffer.events.popleft()[0]
        if buffer.ended:
            raise StreamClosed(f"the stream {buffer.name!r} has ended")
        return 0, None

    def _tell(self, lost: int) -> None:
        if lost and self._on_lag is not None:
            self._on_lag(lost)

    def _no_event(self, timeout: float | None) -> str:
        return f"no event for the stream {self._buffer.name!r} within {timeout} s"

    def _is_inherited(self) -> bool:
        return os.getpid() != self._pid

    def _check_process(self) -> None:
        if self._is_inherited():
            raise StreamClosed(
                f"the stream {self._buffer.name!r} was opened before this process was forked: open it in the process that reads"
            )


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
