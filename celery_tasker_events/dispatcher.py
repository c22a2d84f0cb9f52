"""The channel and its thread: the task's thread puts and goes on, the dispatcher's thread does the work."""

from __future__ import annotations

import contextlib
import enum
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from celery_tasker_events.durable.spool.spool import SpooledEvent
from celery_tasker_events.overflow import Overflow
from celery_tasker_events.pipeline import Publication
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.gauge import is_worth_telling
from celery_tasker_events.telemetry.log import RateLimitedWarning, dropped_fields, error_fields, logger
from celery_tasker_events.threads import start_thread

__all__ = ["Dispatcher"]


class _Token(enum.Enum):
    """What the channel carries beside publications."""

    END = "end"
    LOOK = "look"  # something may have come back from the overflow


_Item = Publication | threading.Event | _Token


class Dispatcher:
    """A bounded channel, drained by one thread that starts with the first put.

    Args:
        publish: Called on the thread for each publication, in order.
        buffer_size: How many publications may wait; of what comes beyond, durable events go to the overflow, if there is
            one, and the others are dropped, counted and logged.
        linger: Seconds for which the thread rests when it has published all there was, so that what comes meanwhile is
            published together. Whoever waits, and a channel that is half full, ends its rest.
        watch: Called on the thread when nothing waits; returns after how many seconds to call it again, or None if not before
            the next publication.
        on_depth: Called when :meth:`channel_depth` has changed and is worth telling, on any thread; it may not wait.
    """

    def __init__(
        self,
        publish: Callable[[Publication], None],
        buffer_size: int,
        counters: Counters,
        *,
        log_dropped: bool,
        linger: float = 0.0,
        watch: Callable[[], float | None] = lambda: None,
        on_depth: Callable[[], None] = lambda: None,
    ) -> None:
        self._publish = publish
        self._buffer_size = buffer_size
        self._linger = linger
        self._hurried = threading.Event()
        # Only what was published is rested from: a thread that has nothing to do must not wake up for it.
        self._is_to_rest = False
        self._counters = counters
        self._watch = watch
        self._on_depth = on_depth
        self._dropped = RateLimitedWarning("%d outcomes dropped: %s") if log_dropped else None
        # A SimpleQueue's put never waits and may even interrupt itself (a signal, the garbage collector).
        self._channel: SimpleQueue[_Item] = SimpleQueue()
        self._overflow: Overflow | None = None
        self._thread: threading.Thread | None = None
        self._look_at: float | None = None
        # Whether somebody was told that something waits, so that the thread tells of what it takes.
        self._is_depth_told = False
        # Between a look at ``closed`` and the put nobody may close. Reentrant, as the channel: see there.
        self._gate = threading.RLock()
        self.closed = False
        # Whether nobody waits any more for what comes back from the overflow.
        self._is_over = False

    def set_overflow(self, overflow: Overflow) -> None:
        """Send there what the channel has no room for. The overflow needs this object first, to wake it."""
        self._overflow = overflow

    def put(self, publication: Publication) -> bool:
        """Hand over without waiting; return False if nothing of the publication was accepted, as when this is closed."""
        with self._gate:
            if self.closed:
                return False
            waiting = self._channel.qsize()
            fits = waiting < self._buffer_size and not (self._overflow is not None and self._overflow.is_used)
            if fits:
                if self._thread is None:
                    self._start()
                self._channel.put(publication)
                if self._linger and (publication.confirmation is not None or waiting >= self._buffer_size // 2):
                    self._hurried.set()
                # The first that waits is taken in no time, as a rule.
                if waiting and is_worth_telling(waiting):
                    self._is_depth_told = True
                    self._on_depth()
        return fits or self._put_aside(publication)

    def wake(self) -> None:
        """Let the thread look into the overflow."""
        with self._gate:
            self._start()
        self._put_now(_Token.LOOK)

    def depth(self) -> int:
        """How many publications wait."""
        return self.channel_depth() + (self._overflow.depth() if self._overflow else 0)

    def channel_depth(self) -> int:
        """How many of them wait in memory. It waits for no lock."""
        return self._channel.qsize()

    def save(self) -> None:
        """Put the durable events that wait on disk, at once; without an overflow they stay where they are."""
        if self._overflow is None or self._thread is None:
            return
        found = self._take_all()
        publications = [item for item in found if isinstance(item, Publication)]
        saved = self._overflow.save([durable for item in publications if (durable := _part(item, durable=True))])
        for item in found:
            rest = _part(item, durable=False) if saved and isinstance(item, Publication) else item
            if rest is not None:
                self._channel.put(rest)
        self._is_depth_told = True
        self._on_depth()

    def drain(self, timeout: float) -> bool:
        """Wait up to that many seconds until all that was put is published; return whether it is."""
        if self._thread is None or not self._thread.is_alive():
            return True
        reached = threading.Event()
        self._put_now(reached)
        return reached.wait(timeout)

    def close(self, timeout: float) -> bool:
        """Drain, then end the thread; return whether it drained. Nothing is accepted any more."""
        with self._gate:
            self.closed = True
        drained = self.drain(timeout)
        self._is_over = True
        self._put_now(_Token.END)
        if self._overflow is not None:
            self._overflow.close()
        return drained

    def runs_here(self) -> bool:
        """Whether this is the dispatcher's own thread: a publisher's hook that calls back."""
        return threading.current_thread() is self._thread

    def _put_now(self, item: _Item) -> None:
        self._channel.put(item)
        self._hurried.set()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = start_thread(self._run, "tasker-events-dispatcher")

    def _run(self) -> None:
        drained: list[threading.Event] = []
        while (item := self._next()) is not _Token.END:
            if isinstance(item, threading.Event):
                drained.append(item)
            elif isinstance(item, Publication):
                self._publish_safely(item)
            if self._overflow is not None and self._overflow.is_used and self._channel.empty():
                self._empty(self._overflow)
            if drained and (self._overflow is None or not self._overflow.is_used):
                for waiter in drained:
                    waiter.set()
                drained.clear()

    def _next(self) -> _Item:
        item = self._wait_for_item()
        if self._is_depth_told and is_worth_telling(self._channel.qsize()):
            self._is_depth_told = False
            self._on_depth()
            # Asked after the flag is cleared: what a task's thread has told of since is told of again.
            if not self._channel.empty():
                self._is_depth_told = True
        return item

    def _wait_for_item(self) -> _Item:
        while True:
            try:
                return self._channel.get(timeout=self._patience())
            except Empty:
                continue

    def _patience(self) -> float | None:
        if not self._channel.empty():
            return 0
        seconds = self._seconds_to_look()
        if self._linger and self._is_to_rest:
            self._is_to_rest = False
            self._hurried.wait(self._linger)
            # Whoever hurries has put before: it is found now, however late this is.
            self._hurried.clear()
        return seconds

    def _seconds_to_look(self) -> float | None:
        """Look after what is watched if it is time to, for that costs as much as an event's way through the channel."""
        now = time.monotonic()
        if self._look_at is None or self._look_at <= now:
            seconds = self._watch()
            self._look_at = None if seconds is None else now + seconds
        return None if self._look_at is None else self._look_at - now

    def _empty(self, overflow: Overflow) -> None:
        while not self._is_over and (taken := overflow.take()):
            published = []
            for stored in taken:
                if stored.publication is not None:
                    self._publish_safely(stored.publication)
                if self._is_over:  # it may have come too late for the writer: it stays on disk for the next process
                    break
                published.append(stored)
            overflow.done(published)

    def _publish_safely(self, publication: Publication) -> None:
        self._is_to_rest = True
        try:
            self._publish(publication)
        except BaseException as error:  # nothing may end this thread: later events would be lost
            extra = {**publication.fields(publication.events[-1]), **error_fields(error)}
            logger.exception("The dispatcher failed on the events of step %s", publication.outcome.step_uuid, extra=extra)

    def _take_all(self) -> list[_Item]:
        found: list[_Item] = []
        with contextlib.suppress(Empty):
            while True:
                found.append(self._channel.get_nowait())
        return found

    def _put_aside(self, publication: Publication) -> bool:
        if self.closed:
            return False
        durable = _part(publication, durable=True)
        accepted = durable is not None and self._overflow is not None and self._overflow.add(durable)
        lost = _part(publication, durable=False) if accepted else publication
        if lost is not None:
            self.drop(lost, "channel full")
        return accepted

    def drop(self, publication: Publication, reason: str) -> None:
        """Count the events of a publication as dropped, and log at most once per interval."""
        for bound in publication.events:
            declaration = bound.declaration
            mode = declaration.delivery_mode.value
            self._counters.add("dropped", declaration.name, bound.namespace, reason, mode=mode)
            if publication.confirmation is not None and bound.confirm:
                publication.confirmation.settle(kept=False)
        if self._dropped:
            self._dropped.add(reason, fields=lambda: dropped_fields(publication.fields(publication.events[-1]), reason))

    def drop_stored(self, event: SpooledEvent, reason: str) -> None:
        """As :meth:`drop`, of an event of which no more is known."""
        self._counters.add("dropped", event.event_name, event.namespace, reason)
        if self._dropped:
            fields = {"event_name": event.event_name, "namespace": event.namespace}
            self._dropped.add(reason, fields=lambda: dropped_fields(fields, reason))


def _part(publication: Publication, *, durable: bool) -> Publication | None:
    """The publication with its durable events alone, or with all others; None if it has no such event."""
    events = tuple(bound for bound in publication.events if bound.declaration.delivery_mode.reaches_pgmq is durable)
    return publication._replace(events=events) if events else None
