"""What becomes of a message whose event a handler is at already: it waits, and that is no attempt."""

from __future__ import annotations

import datetime
import threading

from celery_tasker_events.bus.pattern import Pattern
from celery_tasker_events.consumer import MemoryStore
from celery_tasker_events.consumer.delivery import Message
from celery_tasker_events.consumer.handling import LAST_BUSY_AGAIN, Handler, Handling
from celery_tasker_events.consumer.idempotency import Claim
from celery_tasker_events.consumer.options import Options
from celery_tasker_events.consumer.settling import Action, Settlement
from celery_tasker_events.consumer.workers import Coroutines
from celery_tasker_events.envelope import by_name

from ..making import make_event

MOMENT = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
ELSEWHERE = Claim("consumer:handler", "key-1", "another message")


class Handled:
    """A handler that fails, with a store that says it is busy elsewhere until :meth:`elsewhere_ended`."""

    def __init__(self, *, max_attempts: int) -> None:
        self._store = MemoryStore()
        self._store.claim(ELSEWHERE)
        self._reads = 0
        options = Options(
            name="consumer",
            concurrency=1,
            visibility_timeout=30,
            max_attempts=max_attempts,
            backoff=lambda attempt: 10 + attempt,
            on_success="delete",
            unmatched="archive",
            ordered=True,
            store=self._store,
            poll_interval=1,
            listen=False,
            batch_size=1,
            shutdown_timeout=1,
        )
        handler = Handler("handler", (Pattern("*"),), self._fail, with_delivery=False)
        self._handling = Handling(options, [handler], Coroutines().wait, threading.Event())

    def read(self) -> Settlement:
        self._reads += 1
        body = by_name("native").to_message(make_event()).decode()
        settlement = self._handling.handle(Message("payments_domain_events", 1, self._reads, MOMENT, body, None))
        self._store.settle(None, settlement.done, settlement.released)
        return settlement

    def elsewhere_ended(self) -> None:
        self._store.settle(None, [], [ELSEWHERE])

    def _fail(self, event: object) -> None:
        raise RuntimeError


def test_however_often_a_handler_is_busy_its_message_waits_longer_each_time_and_is_no_dead_letter():
    handled = Handled(max_attempts=2)

    settled = [handled.read() for _ in range(20)]

    assert {(each.action, each.outcome) for each in settled} == {(Action.POSTPONE, "given_back")}
    assert [each.delay for each in settled][:9] == [5, 10, 20, 40, 80, 160, 320, 640, LAST_BUSY_AGAIN]
    assert {each.delay for each in settled[9:]} == {LAST_BUSY_AGAIN}


def test_afterwards_it_has_all_its_attempts():
    handled = Handled(max_attempts=2)
    for _ in range(20):
        handled.read()

    handled.elsewhere_ended()
    first, second = handled.read(), handled.read()

    assert (first.action, first.outcome, first.delay) == (Action.POSTPONE, "retried", 11)
    assert second.letter["failed_stage"] == "handler"


def test_a_message_that_was_read_often_and_never_settled_is_a_dead_letter_and_its_handler_is_not_called():
    handled = Handled(max_attempts=2)
    handled.elsewhere_ended()
    handled._reads = 4

    assert handled.read().letter["failed_stage"] == "attempts"
