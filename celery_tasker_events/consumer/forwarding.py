"""Forwarding: one thread that takes batches, publishes them, and decides by the target's answers what becomes of each event."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from celery_tasker_events import chance
from celery_tasker_events.bus.pattern import Pattern
from celery_tasker_events.consumer.delivery import Delivery, Message, Unreadable, open_message
from celery_tasker_events.consumer.engine import Engine
from celery_tasker_events.consumer.failing import Backoff, Rejected, dead_letter, seconds_to_wait
from celery_tasker_events.consumer.options import OnSuccess
from celery_tasker_events.consumer.settling import Action, Settlement
from celery_tasker_events.consumer.spans import Sending
from celery_tasker_events.consumer.targets import NotNow, Outcome, Target, TargetGone, TargetUnavailable
from celery_tasker_events.consumer.tracing import sending
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.telemetry.log import RateLimitedWarning, error_fields, event_fields, logger

__all__ = ["Forwarding", "Outage", "Verdicts"]

#: Seconds between attempts while the target can't be used: doubled from the first to the last, less up to half at random.
FIRST_BACKOFF = 0.1
LAST_BACKOFF = 10.0

#: Seconds after which a target is asked again at the latest, whatever it has said: a wrong answer must not stop everything.
LONGEST_WISH = 300.0

_refusals = RateLimitedWarning("%d times a target did not take an event, which is tried again: %s: %s")


class Outage:
    """Tells once when the target can't be used, and once when it can again, for all threads together."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._is_down = False
        self._lock = threading.Lock()

    def begins(self, error: BaseException) -> None:
        with self._lock:
            if not self._is_down:
                self._is_down = True
                fields = error_fields(error)
                logger.warning("Forwarding waits for %s: %s", self._target, fields["error"].strip(), extra=fields)

    def ends(self) -> None:
        with self._lock:
            if self._is_down:
                self._is_down = False
                logger.warning("Forwarding to %s goes on", self._target)


@dataclass(frozen=True)
class Verdicts:
    """What becomes of messages. See :class:`~celery_tasker_events.consumer.forwarder.Forwarder` for each."""

    patterns: Sequence[Pattern]
    name: str
    on_success: OnSuccess
    others: OnSuccess
    max_attempts: int | None
    backoff: Backoff

    def open(self, message: Message) -> Delivery | Settlement:
        """Return the event to forward, or what becomes of a message that holds none."""
        try:
            delivery = open_message(message)
        except Unreadable as error:
            return self._letter(message, "read", error, {"queue_name": message.queue})
        if any(pattern.matches(delivery.event.event_name) for pattern in self.patterns):
            return delivery
        return Settlement(message, _action(self.others), "unmatched", event_fields(delivery.event))

    def judge(self, message: Message, delivery: Delivery, outcome: NotNow | Rejected | None) -> Settlement:
        """Return what becomes of a message after the target's answer."""
        fields = event_fields(delivery.event)
        if outcome is None:
            return Settlement(message, _action(self.on_success), "handled", fields)
        gives_up = self.max_attempts is not None and message.read_count >= self.max_attempts
        if isinstance(outcome, Rejected) or gives_up:
            return self._letter(message, "target", outcome, fields)
        told = error_fields(outcome)
        _refusals.add(told["error_type"], told["error"], fields=lambda: {**fields, **told})
        delay = seconds_to_wait(outcome, message.read_count, lambda attempt: _until(outcome, self.backoff(attempt)))
        return Settlement(message, Action.POSTPONE, "retried", fields, delay)

    def _letter(self, message: Message, stage: str, error: BaseException, fields: dict[str, str]) -> Settlement:
        extra = {**fields, "message_id": message.message_id, "failed_stage": stage, **error_fields(error)}
        logger.error("Message %d of queue %s becomes a dead letter: %s", message.message_id, message.queue, error, extra=extra)
        letter = dead_letter(message, stage, error, self.name, fields)
        return Settlement(message, Action.DEAD_LETTER, "dead_lettered", fields, letter=letter)


def _until(outcome: NotNow | TargetUnavailable, backoff: float) -> float:
    """Return after how many seconds to try again: when the target wants it, but neither at once nor never."""
    return backoff if outcome.after is None else max(backoff, min(outcome.after, LONGEST_WISH))


def _action(wanted: OnSuccess) -> Action:
    return Action.ARCHIVE if wanted == "archive" else Action.DELETE


class Forwarding:
    """The work of one thread.

    While the target can't be used, what was taken is kept, and its leases are extended: no attempt is used up, and the order
    of each workflow stays.

    Args:
        may_wait: Whether a target that can't be reached at the start is waited for.
    """

    def __init__(self, engine: Engine, target: Target, verdicts: Verdicts, outage: Outage, *, may_wait: bool) -> None:
        self._engine = engine
        self._target = target
        self._verdicts = verdicts
        self._outage = outage
        self._may_wait = may_wait
        self._is_open = False
        self._backoff = FIRST_BACKOFF

    def run(self) -> None:
        """Forward until the engine hands out no more.

        Raises:
            ConfigurationError: if the target can't be used at all.
            TargetUnavailable: if it can't be used at the start, and is not to be waited for.
        """
        try:
            self._open_first()
            while batch := self._engine.take_batch(self._target.batch_size):
                self._forward(batch)
        finally:
            self._close()

    def _open_first(self) -> None:
        while not self._engine.stopping.is_set():
            try:
                self._open()
                self._outage.ends()
                return
            except TargetUnavailable as error:
                if not self._may_wait:
                    raise
                self._wait(error)

    def _forward(self, batch: Sequence[Message]) -> None:
        waiting: list[tuple[Message, Sending]] = []
        settled = []
        system, destination = self._target.system, self._target.destination
        for message in batch:
            opened = self._verdicts.open(message)
            if isinstance(opened, Settlement):
                settled.append(opened)
            else:
                waiting.append((message, sending(opened, system, destination)))
        self._engine.settle(*settled)
        try:
            while waiting and not self._engine.stopping.is_set():
                waiting = self._attempt(waiting)
                waiting = self._without_lost(waiting)
        except TargetGone:
            self._engine.stop()
        finally:
            self._give_back(waiting)

    def _attempt(self, waiting: list[tuple[Message, Sending]]) -> list[tuple[Message, Sending]]:
        """Publish once, and return what has to be published again."""
        outcomes = self._outcomes([each.delivery for _, each in waiting])
        again, down, settled = [], None, []
        for (message, each), outcome in zip(waiting, outcomes, strict=True):
            if isinstance(outcome, TargetUnavailable):
                again.append((message, each))
                down = down or outcome
            else:
                each.end(outcome)
                settled.append(self._verdicts.judge(message, each.delivery, outcome))
        self._engine.settle(*settled)
        if down is None:
            self._backoff = FIRST_BACKOFF
            self._outage.ends()
        else:
            self._close()
            self._wait(down)
        return again

    def _without_lost(self, waiting: list[tuple[Message, Sending]]) -> list[tuple[Message, Sending]]:
        """Let go of messages whose lease has ended, in an outage of Postgres: somebody else may have forwarded them."""
        held = [pair for pair in waiting if self._engine.holds(pair[0])]
        self._give_back([pair for pair in waiting if pair not in held])
        return held

    def _outcomes(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        try:
            self._open()
            return self._target.publish(batch)
        except TargetUnavailable as error:
            return [error] * len(batch)
        except (TargetGone, ConfigurationError):
            raise
        except Exception as error:  # one event that a target's client can't cope with must not hold up the others
            self._close()
            if len(batch) > 1:
                return [outcome for delivery in batch for outcome in self._outcomes([delivery])]
            return [NotNow(f"{type(error).__name__}: {error}")]

    def _open(self) -> None:
        if not self._is_open:
            try:
                self._target.open()
            except BaseException:
                self._target.close()
                raise
            self._is_open = True

    def _close(self) -> None:
        self._is_open = False
        self._target.close()

    def _wait(self, error: TargetUnavailable) -> None:
        self._outage.begins(error)
        seconds = _until(error, self._backoff * chance.between(0.5, 1.0))
        self._backoff = min(self._backoff * 2, LAST_BACKOFF)
        self._engine.stopping.wait(seconds)

    def _give_back(self, pairs: Sequence[tuple[Message, Sending]]) -> None:
        for _, each in pairs:
            each.end(TargetUnavailable("given back"))
        self._engine.settle(
            *(Settlement(message, Action.POSTPONE, "given_back", event_fields(each.delivery.event)) for message, each in pairs)
        )
