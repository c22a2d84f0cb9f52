"""The recorder: what stands at the ends of the paths in a test, and keeps what comes there."""

from __future__ import annotations

import inspect
import itertools
from dataclasses import dataclass
from typing import Any

from celery_tasker_events import envelope, values
from celery_tasker_events.building import Draft, Publication
from celery_tasker_events.diversion import DurableEnd
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.durable.transaction import AsyncAdapter, SyncAdapter, adapter_of
from celery_tasker_events.errors import NotSerialisable
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.forking import ForkLock
from celery_tasker_events.router import BusPath
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.gauge import ConnectionState
from celery_tasker_events.testing.clock import Clock
from celery_tasker_events.transactional import MODE

__all__ = ["FIRED_BY", "DeadLetter", "Recorded", "Recorder"]

#: ``fired_by`` of every event: the node names of workers in tests are random.
FIRED_BY = "worker@test"


@dataclass(frozen=True)
class DeadLetter:
    """An event that could not be published. In production a durable one is parked, and a fast one is lost.

    Attributes:
        namespace: None if ``events.publish`` was called in a way that there is not; such an event is lost.
        delivery_mode: None then, too.
        stage: Where on its way, such as ``"schema"``; the names are those of dead letters in the queue.
        payload_text: As much of the payload as there was, as JSON text.
    """

    event_name: str
    namespace: str | None
    delivery_mode: str | None
    stage: str
    error: BaseException
    payload_text: str | None


@dataclass
class Recorded:
    """An event that was published.

    Attributes:
        message: What would stand in the PGMQ queue; None of a fast event.
    """

    event: DomainEvent
    delivery_mode: str
    message: dict[str, Any] | None = None


class Recorder:
    """Keeps events and dead letters in the order in which they come; see :class:`celery_tasker_events.diversion.Diversion`.

    Attributes:
        runs_subscribers: Whether fast and broadcast events go on to the app's subscribers and streams.
    """

    def __init__(self, clock: Clock) -> None:
        self.runs_subscribers = False
        self._clock = clock
        self._lock = ForkLock()
        self._recorded: dict[str, Recorded] = {}
        self._dead_letters: list[DeadLetter] = []

    @property
    def recorded(self) -> list[Recorded]:
        with self._lock:
            return list(self._recorded.values())

    @property
    def dead_letters(self) -> list[DeadLetter]:
        with self._lock:
            return list(self._dead_letters)

    def clear(self) -> None:
        """Forget the events, not the dead letters."""
        with self._lock:
            self._recorded.clear()

    def take(self, letter: DeadLetter) -> None:
        """Forget a dead letter."""
        with self._lock:
            self._dead_letters.remove(letter)

    def durable(self, counters: Counters) -> DurableEnd:
        return _DurableEnd(self, counters)

    def bus(self, bus: BusPath) -> BusPath:
        return _BusEnd(self, bus)

    def adapter(self, connection: object) -> SyncAdapter | AsyncAdapter:
        commit = getattr(connection, "commit", None)
        if commit is None:  # a pool, an engine, a cursor: the error is the same as in production
            return adapter_of(connection)
        return _AsyncAdapter(self) if inspect.iscoroutinefunction(commit) else _SyncAdapter(self)

    def stamped(self, publication: Publication) -> Publication:
        outcome = publication.outcome
        stamped = outcome._replace(
            fired_at=self._clock.now.timestamp(),
            fired_by=FIRED_BY,
            execution_time_ms=None if outcome.execution_time_ms is None else 0.0,
        )
        return publication._replace(outcome=stamped)

    def refused(self, event_name: str, error: BaseException) -> None:
        with self._lock:
            self._dead_letters.append(DeadLetter(event_name, None, None, "publish", error, None))

    def failed(self, draft: Draft, error: BaseException) -> None:
        declaration = draft.bound.declaration
        letter = DeadLetter(
            declaration.name, draft.bound.namespace, declaration.delivery_mode.value, draft.stage, error, draft.payload_text
        )
        with self._lock:
            self._dead_letters.append(letter)

    def heard(self, event: DomainEvent, mode: str) -> None:
        """The bus has got an event."""
        with self._lock:
            self._recorded[event.event_id] = Recorded(event, mode)

    def sent(self, message: DurableMessage) -> None:
        """The durable path has got a message. Of a broadcast event, the bus has got it before."""
        content = values.decode(message.body)
        event = envelope.read(content)
        mode = message.fields.get("delivery_mode", MODE)
        with self._lock:
            self._recorded.setdefault(event.event_id, Recorded(event, mode)).message = content

    def unstorable(self, message: DurableMessage, error: BaseException) -> None:
        """Postgres would refuse the message."""
        fields = message.fields
        letter = DeadLetter(
            fields["event_name"], fields["namespace"], fields["delivery_mode"], "postgres", error, message.body.decode()
        )
        with self._lock:
            self._recorded.pop(fields["event_id"], None)
            self._dead_letters.append(letter)


class _BusEnd:
    def __init__(self, recorder: Recorder, bus: BusPath) -> None:
        self._recorder = recorder
        self._bus = bus

    def publish(self, event: DomainEvent, mode: str) -> None:
        self._recorder.heard(event, mode)
        if self._recorder.runs_subscribers:
            self._bus.publish(event, mode)


class _DurableEnd:
    """Has nothing to start, to wait for or to end: what is sent is kept at once."""

    connection = ConnectionState.UNUSED

    def __init__(self, recorder: Recorder, counters: Counters) -> None:
        self._recorder = recorder
        self._counters = counters

    def send(self, message: DurableMessage) -> None:
        # Of a dead letter the recorder has been told already.
        if not message.is_dead_letter:
            try:
                message.check_storable()
            except NotSerialisable as error:
                self._recorder.unstorable(message, error)
                message.trail.failed("postgres", error)
            else:
                self._recorder.sent(message)
                fields = message.fields
                self._counters.add("published", fields["event_name"], fields["namespace"], mode=fields["delivery_mode"])
                message.trail.published()
        if message.confirmation is not None:
            message.confirmation.settle(kept=True)

    def prepare(self, namespace: str) -> None: ...

    def start(self) -> None: ...

    def depth(self) -> int:
        return 0

    def watch(self) -> float | None:
        return None

    def save(self) -> None: ...

    def drain(self, timeout: float) -> bool:
        return True

    def close(self, timeout: float) -> bool:
        return True


class _SyncAdapter(SyncAdapter):
    """Writes nothing, whichever connection it is; what the transaction comes to is not known here."""

    classes = ()

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._numbers = itertools.count(1)

    def send(self, message: DurableMessage) -> int:
        self._recorder.sent(message)
        return next(self._numbers)


class _AsyncAdapter(AsyncAdapter):
    classes = ()

    def __init__(self, recorder: Recorder) -> None:
        self._sync = _SyncAdapter(recorder)

    async def send(self, message: DurableMessage) -> int:
        return self._sync.send(message)
