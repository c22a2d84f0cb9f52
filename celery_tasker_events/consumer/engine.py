"""The engine: one thread and one connection that read messages, keep their leases and settle them.

Everything that this process asks of the queues happens here, one after the other, so there is one place that knows whether
Postgres is there. Whoever handles messages takes them from memory and hands back what is to become of them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable

import psycopg
from psycopg import errors

from celery_tasker_events import chance
from celery_tasker_events.consumer.delivery import Message
from celery_tasker_events.consumer.idempotency import IdempotencyStore
from celery_tasker_events.consumer.lease import Leases
from celery_tasker_events.consumer.reading import BatchSize, Reader
from celery_tasker_events.consumer.settler import MAX_BATCH, Settler
from celery_tasker_events.consumer.settling import Action, Settlement, set_visibility
from celery_tasker_events.consumer.statistics import Statistics
from celery_tasker_events.consumer.stopping import SLICE
from celery_tasker_events.consumer.waiting import Waiting
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import Connection
from celery_tasker_events.errors import ConfigurationError, DatabaseNotReady
from celery_tasker_events.telemetry.log import error_fields, logger

__all__ = ["Engine"]

#: Seconds between attempts while Postgres can't be used: doubled from the first to the last, less up to half at random.
FIRST_BACKOFF = 0.1
LAST_BACKOFF = 5.0

#: Seconds after which a settlement that Postgres has refused is tried again.
REFUSED_AGAIN = 10.0


class Engine:
    """Serves one run of a consumer, from :meth:`start` to its end.

    Args:
        concurrency: How many messages are handled at the same time.
        batch_size: How many are held at most, handled or waiting for it.
        until_empty: Whether to stop when nothing is left to read.
    """

    def __init__(
        self,
        dsn: str,
        reader: Reader,
        leases: Leases,
        waiting: Waiting,
        store: IdempotencyStore | None,
        statistics: Statistics,
        *,
        concurrency: int,
        batch_size: int,
        until_empty: bool,
    ) -> None:
        self._dsn = dsn
        self._reader = reader
        self._leases = leases
        self._waiting = waiting
        waiting.wake = self.wake
        self._store = store
        self._statistics = statistics
        self._settler = Settler(store, statistics)
        self._batch = BatchSize(concurrency, batch_size)
        self._until_empty = until_empty
        self._changed = threading.Condition()
        self._ready: deque[Message] = deque()
        self._running = 0
        self._settled: deque[Settlement] = deque()
        self._refused: list[Settlement] = []
        self._refused_again = 0.0
        self._look = True
        self._is_down = False
        self._has_worked = False
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="tasker-events-consumer", daemon=True)
        #: Set when no more messages are handed out, and when the thread has ended.
        self.stopping, self.ended = threading.Event(), threading.Event()
        #: What ended it, if nobody asked for it.
        self.error: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Hand out no more messages; what is being handled is still settled. From any thread."""
        with self._changed:
            self.stopping.set()
            self._changed.notify_all()

    def abandon(self) -> None:
        """Wait for nothing any more: what is not settled comes again when its lease ends."""
        with self._changed:
            self.stopping.set()
            self._abandoned = True
            self._changed.notify_all()

    def wake(self) -> None:
        """Make the engine ask what is due. From any thread."""
        with self._changed:
            self._changed.notify_all()

    def take(self) -> Message | None:
        """Wait for a message, which must be settled afterwards; None: there will be none."""
        taken = self.take_batch(1)
        return taken[0] if taken else None

    def take_batch(self, most: int) -> list[Message]:
        """Wait for messages, up to that many, which must be settled afterwards; none: there will be none."""
        taken: list[Message] = []
        with self._changed:
            while not taken:
                # In slices, for this may be the main thread, in which signals are received.
                while not self._ready and not self.stopping.is_set():
                    self._changed.wait(SLICE)
                if self.stopping.is_set():
                    break
                while self._ready and len(taken) < most:
                    message = self._ready.popleft()
                    if self._leases.holds(message, time.monotonic()):
                        taken.append(message)
                    else:
                        # Somebody else may have it by now, or will have it soon.
                        self._leases.end([message])
            self._running += len(taken)
        return taken

    def holds(self, message: Message) -> bool:
        """Return whether a message that was taken is still this process' own, so far as it knows."""
        return self._leases.holds(message, time.monotonic())

    def settle(self, *settlements: Settlement) -> None:
        """Say what is to become of messages that were taken; it is committed soon."""
        with self._changed:
            self._running -= len(settlements)
            self._settled.extend(settlements)
            self._changed.notify_all()

    @property
    def in_progress(self) -> int:
        """How many messages are being handled now."""
        return self._running

    def _run(self) -> None:
        backoff = FIRST_BACKOFF
        try:
            while not self._is_finished():
                try:
                    with connect(self._dsn) as connection:
                        self._prepare(connection)
                        backoff = FIRST_BACKOFF
                        self._work(connection)
                except (psycopg.Error, DatabaseNotReady, ConfigurationError) as error:
                    self._tell_down(error)
                    self._sleep(backoff * chance.between(0.5, 1.0))
                    backoff = min(backoff * 2, LAST_BACKOFF)
        except BaseException as error:
            self.error = error
        finally:
            self._waiting.close()
            if self._store is not None:
                self._store.close()
            self.stop()
            self.ended.set()

    def _is_finished(self) -> bool:
        with self._changed:
            if self._abandoned:
                return True
            return self.stopping.is_set() and not self._running and not self._settled and not len(self._leases)

    def _prepare(self, connection: Connection) -> None:
        self._reader.prepare(connection)
        if self._store is not None:
            self._store.prepare(connection, self._dsn)
        self._waiting.refresh(connection, time.monotonic(), again=True)
        self._look = True

    def _work(self, connection: Connection) -> None:
        while not self._is_finished():
            if self.stopping.is_set():
                self._give_back()
            self._settle(connection)
            self._extend(connection)
            if not self.stopping.is_set():
                self._read(connection)
            self._has_worked = True
            self._tell_up()
            self._pause()

    def _give_back(self) -> None:
        with self._changed:
            for message in self._ready:
                self._settled.append(Settlement(message, Action.POSTPONE, "given_back", {}))
            self._ready.clear()

    def _settle(self, connection: Connection) -> None:
        if self._refused and (self.stopping.is_set() or time.monotonic() >= self._refused_again):
            with self._changed:
                self._settled.extend(self._refused)
            self._refused = []
        with self._changed:
            batch = list(self._settled)[:MAX_BATCH]
        if not batch:
            return
        now = time.monotonic()
        refused = self._settler.settle(
            connection, [each for each in batch if each.is_final or self._leases.holds(each.message, now)]
        )
        now = time.monotonic()
        with self._changed:
            for _ in batch:
                self._settled.popleft()
        if refused and self.stopping.is_set():
            # Nobody waits for an administrator any more: they come again when their leases end.
            self._statistics.add(["unsettled"] * len(refused))
        elif refused:
            self._refused += refused
            self._refused_again = now + REFUSED_AGAIN
        kept = {id(settlement) for settlement in self._refused}
        self._leases.end(settlement.message for settlement in batch if id(settlement) not in kept)
        for delay in {settlement.delay for settlement in batch if settlement.action is Action.POSTPONE}:
            self._waiting.look_at(now + delay)
        # In order, the next event of each workflow can be read now.
        self._look = self._look or self._reader.ordered or self._until_empty

    def _extend(self, connection: Connection) -> None:
        now = time.monotonic()
        due = self._leases.next_extension()
        if due is None or now < due:
            return
        self._leases.extended(now)
        self._tell_lost(self._leases.expire(now))
        for queue, ids in self._leases.by_queue().items():
            try:
                answered = set_visibility(connection, queue, ids, self._leases.visibility_timeout)
            except errors.UndefinedTable:
                answered = {}
            self._tell_lost(self._leases.extend(queue, ids, answered, now))

    def _read(self, connection: Connection) -> None:
        now = time.monotonic()
        self._waiting.refresh(connection, now)
        room = self._room()
        # Whether it is due is only asked where there is room, for what is due counts as done then.
        if not room or not (self._waiting.is_due(now) or self._look):
            return
        self._look = False
        self._batch.about_to_read(now)
        messages = self._reader.read(connection, room)
        ended = time.monotonic()
        self._look = self._look or self._reader.may_have_more
        self._batch.has_read(ended, ended - now, full=self._reader.may_have_more)
        new = self._leases.add(messages, now)
        self._statistics.add(["received"] * len(new))
        with self._changed:
            self._ready.extend(new)
            self._changed.notify_all()
        if self._until_empty and not self._look:
            self._end_if_empty()

    def _room(self) -> int:
        """How many more messages to read; what is refused holds nobody up, until it is too much to keep."""
        with self._changed:
            return 0 if len(self._refused) >= MAX_BATCH else self._batch.room(len(self._ready) + self._running)

    def _end_if_empty(self) -> None:
        with self._changed:
            if len(self._leases) or self._waiting.has_plans:
                return
            # Not raised: an error on this thread's way is one of the database, which is waited for.
            if self._reader.missing:
                self.error = ConfigurationError(f"there is no queue {' and no queue '.join(self._reader.missing)}")
            self.stop()

    def _pause(self) -> None:
        """Wait until there is something to do; what is said from other threads meanwhile wakes this one."""
        with self._changed:
            if self._settled or (self.stopping.is_set() and self._ready) or self._is_finished():
                return
            moments = [self._leases.next_extension()]
            if self._refused:
                moments.append(self._refused_again)
            if self._room() and not self.stopping.is_set():
                if self._look:
                    return
                # Asked inside the lock: a notification that comes after it has to wait until this thread does.
                moments.append(self._waiting.next_look())
            due = [moment for moment in moments if moment is not None]
            timeout = min(due) - time.monotonic() if due else None
            if timeout is None or timeout > 0:
                self._changed.wait(timeout)

    def _sleep(self, seconds: float) -> None:
        """Wait between two attempts to reach Postgres, no longer than there is something to wait for."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not self._is_finished() and (left := deadline - time.monotonic()) > 0:
                if self.stopping.is_set() and self._ready:
                    # They can't be given back now, and will come again when their leases end.
                    self._leases.end(self._ready)
                    self._ready.clear()
                self._changed.wait(left)

    def _tell_down(self, error: BaseException) -> None:
        if not self._has_worked and (self._until_empty or not isinstance(error, psycopg.Error)):
            raise error
        if not self._is_down:
            self._is_down = True
            fields = error_fields(error)
            logger.warning("Consuming waits for Postgres: %s: %s", type(error).__name__, fields["error"].strip(), extra=fields)

    def _tell_up(self) -> None:
        if self._is_down:
            self._is_down = False
            logger.warning("Consuming goes on")

    def _tell_lost(self, lost: Iterable[Message]) -> None:
        for message in lost:
            self._statistics.add(["lost_leases"])
            logger.warning(
                "The lease of message %d of queue %s has ended before it was settled: another consumer may handle it too",
                message.message_id,
                message.queue,
                extra={"queue_name": message.queue, "message_id": message.message_id},
            )
