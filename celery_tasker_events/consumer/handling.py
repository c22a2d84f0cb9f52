"""Handling: which handlers an event has, how they are called, and what becomes of its message afterwards."""

from __future__ import annotations

import inspect
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from celery_tasker_events.bus.pattern import Pattern
from celery_tasker_events.consumer.delivery import Delivery, Message, Unreadable, open_message
from celery_tasker_events.consumer.failing import Exhausted, Rejected, dead_letter, seconds_to_wait
from celery_tasker_events.consumer.idempotency import Answer, Claim, IdempotencyStore
from celery_tasker_events.consumer.options import Options
from celery_tasker_events.consumer.settling import Action, Settlement
from celery_tasker_events.consumer.tracing import processing
from celery_tasker_events.telemetry.log import RateLimitedWarning, error_fields, event_fields, logger

__all__ = ["Busy", "Handler", "Handling", "Interrupted", "Marks"]

#: Seconds after which another message of an event that a handler is at is looked at again: doubled from the first to the last.
FIRST_BUSY_AGAIN = 5
LAST_BUSY_AGAIN = 900

#: Messages of which it is remembered how often they found a handler busy.
BUSY_REMEMBERED = 10_000

#: Seconds between two questions to an idempotency store that can't be asked.
STORE_AGAIN = 1.0


class Interrupted(Exception):
    """The consumer is stopped before the event was handled: nobody's failure."""


class Busy(Interrupted):
    """A handler is at the same event, which another message has brought."""


@dataclass(frozen=True)
class Handler:
    """A function with the events that it is for.

    Attributes:
        name: What the idempotency store knows it by.
        with_delivery: Whether it is called with the event and its :class:`Delivery`, or with the event only.
    """

    name: str
    patterns: tuple[Pattern, ...]
    function: Callable[..., Any]
    with_delivery: bool

    def is_for(self, event_name: str) -> bool:
        return any(pattern.matches(event_name) for pattern in self.patterns)


class Marks:
    """The claims of one event: what its handlers have seen of it."""

    def __init__(self) -> None:
        self.done: list[Claim] = []
        self.open: list[Claim] = []


class Handling:
    """Decides what becomes of each message. It is called from several threads at once.

    Args:
        wait: Runs what an ``async def`` handler returned to its end, and returns its result.
        stopping: Set when nothing is to be waited for any more.
    """

    def __init__(
        self,
        options: Options,
        handlers: Sequence[Handler],
        wait: Callable[[Awaitable[Any]], Any],
        stopping: threading.Event,
    ) -> None:
        self._options = options
        self._handlers = handlers
        self._wait = wait
        self._stopping = stopping
        self._busy: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._lock = threading.Lock()
        self._store_trouble = RateLimitedWarning("%d times the idempotency store could not be asked: %s: %s")

    def handle(self, message: Message) -> Settlement:
        """Call the handlers of a message's event, and return what is to become of it. It raises nothing."""
        opened = self.open(message)
        if isinstance(opened, Settlement):
            return opened
        handlers = [handler for handler in self._handlers if handler.is_for(opened.event.event_name)]
        if not handlers:
            return self._unmatched(message, opened)
        marks = Marks()
        try:
            with processing(opened):
                seen = [self._call(handler, opened, marks) for handler in handlers]
        except BaseException as error:  # a handler is users' code, and may raise SystemExit as well
            return self.failed(message, opened, error, marks)
        return self.succeeded(message, opened, marks, is_new=any(seen))

    def open(self, message: Message) -> Delivery | Settlement:
        """Return the event of a message, or what is to become of a message that should not be handled."""
        try:
            return open_message(message)
        except Unreadable as error:
            return self._letter(message, "read", error, {"queue_name": message.queue})

    def claim(self, handler: str, delivery: Delivery, marks: Marks) -> bool:
        """Ask the store whether a handler may see the event; False: it has seen it.

        Raises:
            Interrupted: if the store does not answer before the consumer is stopped.
            Busy: if the handler is at the event now.
            Exhausted: if the message was read so often that the handler shall not see it once more.
        """
        answer = self._claimed(handler, delivery, marks)
        if answer is Answer.BUSY:
            raise Busy
        # Twice as often as it may fail: reads that nobody answered are counted too, and some of them are not its fault.
        if answer is Answer.GRANTED and self._attempts(delivery) > 2 * self._options.max_attempts:
            raise Exhausted(f"read {delivery.attempt} times and never settled: perhaps it ends who handles it")
        return answer is Answer.GRANTED

    def _claimed(self, handler: str, delivery: Delivery, marks: Marks) -> Answer:
        store = self._options.store
        if store is None:
            return Answer.GRANTED
        # Other publishers than this package may know no key.
        key = delivery.event.metadata.idempotency_key or delivery.event.event_id
        claim = Claim(f"{self._options.name}:{handler}", key, f"{delivery.queue}:{delivery.message_id}")
        answer = self._ask(store, claim)
        if answer is Answer.GRANTED:
            marks.open.append(claim)
        return answer

    def succeeded(self, message: Message, delivery: Delivery, marks: Marks, *, is_new: bool) -> Settlement:
        """Return what becomes of a message whose handlers have all returned, or had all seen the event before."""
        action = Action.ARCHIVE if self._options.on_success == "archive" else Action.DELETE
        outcome = "handled" if is_new else "duplicates"
        return Settlement(message, action, outcome, event_fields(delivery.event), done=(*marks.done, *marks.open))

    def failed(self, message: Message, delivery: Delivery, error: BaseException, marks: Marks) -> Settlement:
        """Return what becomes of a message after a handler's error: another attempt, or none."""
        fields = event_fields(delivery.event)
        if isinstance(error, Interrupted):
            return self.given_back(message, delivery, marks, self._pause(message, error))
        if isinstance(error, Exhausted):
            return self._letter(message, "attempts", error, fields, marks)
        attempt = self._attempts(delivery)
        told = {**fields, "message_id": message.message_id, "attempt": attempt, **error_fields(error)}
        if isinstance(error, Rejected) or attempt >= self._options.max_attempts:
            logger.error("Domain event %s becomes a dead letter", delivery.event.event_name, exc_info=error, extra=told)
            return self._letter(message, "handler", error, fields, marks, tell=False)
        delay = seconds_to_wait(error, attempt, self._options.backoff)
        logger.warning(
            "Handling domain event %s failed; attempt %d follows in %d s",
            delivery.event.event_name,
            attempt + 1,
            delay,
            exc_info=error,
            extra=told,
        )
        return Settlement(message, Action.POSTPONE, "retried", fields, delay, done=marks.done, released=marks.open)

    def given_back(self, message: Message, delivery: Delivery, marks: Marks, delay: int = 0) -> Settlement:
        """Return what becomes of a message that nobody has handled, and whom that is no failure of."""
        fields = event_fields(delivery.event)
        return Settlement(message, Action.POSTPONE, "given_back", fields, delay, done=marks.done, released=marks.open)

    def _pause(self, message: Message, error: Interrupted) -> int:
        if self._stopping.is_set():
            return 0
        if not isinstance(error, Busy):
            return FIRST_BUSY_AGAIN
        with self._lock:
            self._busy[message.key] = self._busy.pop(message.key, 0) + 1
            while len(self._busy) > BUSY_REMEMBERED:
                self._busy.popitem(last=False)
        # By the reads of all consumers, so that the message is not read the more often the more of them there are.
        return min(FIRST_BUSY_AGAIN << min(message.read_count - 1, 10), LAST_BUSY_AGAIN)

    def _attempts(self, delivery: Delivery) -> int:
        """How often the message was read, without the times that this process knows to be no attempt."""
        with self._lock:
            return delivery.attempt - self._busy.get((delivery.queue, delivery.message_id), 0)

    def _call(self, handler: Handler, delivery: Delivery, marks: Marks) -> bool:
        """Let one handler see the event, unless it has seen it; return whether it was called."""
        if not self.claim(handler.name, delivery, marks):
            return False
        arguments = (delivery.event, delivery) if handler.with_delivery else (delivery.event,)
        result = handler.function(*arguments)
        if inspect.isawaitable(result):
            self._wait(result)
        marks.done += marks.open
        marks.open.clear()
        return True

    def _ask(self, store: IdempotencyStore, claim: Claim) -> Answer:
        while True:
            try:
                return store.claim(claim)
            except Exception as error:  # while the store can't be asked, nobody knows whether the handler may be called
                told = error_fields(error)
                self._store_trouble.add(told["error_type"], told["error"].strip(), fields=told.copy)
                if self._stopping.wait(STORE_AGAIN):
                    raise Interrupted from error

    def _unmatched(self, message: Message, delivery: Delivery) -> Settlement:
        fields = event_fields(delivery.event)
        if self._options.unmatched == "dead_letter":
            error = Rejected(f"no handler of this consumer is for {delivery.event.event_name}")
            return self._letter(message, "unmatched", error, fields)
        action = Action.ARCHIVE if self._options.unmatched == "archive" else Action.DELETE
        return Settlement(message, action, "unmatched", fields)

    def _letter(
        self,
        message: Message,
        stage: str,
        error: BaseException,
        fields: dict[str, Any],
        marks: Marks | None = None,
        *,
        tell: bool = True,
    ) -> Settlement:
        if tell:
            extra = {**fields, "message_id": message.message_id, "failed_stage": stage, **error_fields(error)}
            logger.error(
                "Message %d of queue %s becomes a dead letter: %s", message.message_id, message.queue, error, extra=extra
            )
        marks = marks or Marks()
        letter = dead_letter(message, stage, error, self._options.name, fields)
        return Settlement(
            message, Action.DEAD_LETTER, "dead_lettered", fields, letter=letter, done=marks.done, released=marks.open
        )
