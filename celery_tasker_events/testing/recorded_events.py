"""RecordedEvents: what a test asks about the domain events that its tasks have published."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator, Mapping
from typing import Any

from celery_tasker_events.bus.pattern import Pattern
from celery_tasker_events.errors import ConfigurationError, did_you_mean
from celery_tasker_events.event import DomainEvent, event_ids_from
from celery_tasker_events.event_type import EventType
from celery_tasker_events.plugin import attached_plugins
from celery_tasker_events.process import diverted
from celery_tasker_events.testing.clock import Clock, CountingIds
from celery_tasker_events.testing.comparing import Difference, differences, list_of, table_of, told_letter
from celery_tasker_events.testing.recorder import DeadLetter, Recorded, Recorder
from celery_tasker_events.testing.running_tasks import RunningTasks
from celery_tasker_events.testing.settling import settle

__all__ = ["RecordedEvents", "recorded"]

#: What the clock shows when a test begins.
START = datetime.datetime(2025, 1, 1, 12, 0, tzinfo=datetime.timezone.utc)

#: Seconds between two looks for an event that is waited for.
_INTERVAL = 0.01

_ANYTHING: Any = object()


@contextlib.contextmanager
def recorded() -> Iterator[RecordedEvents]:
    """Record what this process publishes inside the ``with`` block, whichever app does; nothing of it goes elsewhere.

    The fixture ``domain_events`` is made of it; use it where that does not reach, in ``unittest`` or for a whole session.

    Raises:
        AssertionError: at the end, if there are dead letters that the test did not expect.
    """
    clock = Clock(START)
    recorder, running = Recorder(clock), RunningTasks()
    events = RecordedEvents(clock, recorder, running)
    running.connect()
    try:
        with diverted(recorder), event_ids_from(CountingIds(clock)):
            yield events
            events._settle()
    finally:
        running.disconnect()
    events.check()


class RecordedEvents:
    """The events that were published since the test began, or since :meth:`clear`, oldest first.

    Every question waits first until the tasks that run in this process have ended and their events are made, up to
    ``timeout`` seconds.

    Attributes:
        clock: When events are fired.
        timeout: See above.
    """

    def __init__(self, clock: Clock, recorder: Recorder, running: RunningTasks) -> None:
        self.clock = clock
        self.timeout = 10.0
        self._recorder = recorder
        self._running = running

    def assert_published(
        self,
        event_name: str | EventType[Any],
        /,
        *,
        payload: Any = _ANYTHING,
        metadata: Mapping[str, Any] | None = None,
        timeout: float = 0.0,
        **fields: Any,
    ) -> DomainEvent:
        """Return the first event of that name whose fields are as given.

        Args:
            event_name: Its name, a pattern such as ``"payment.*"``, or what ``events.declare`` returned.
            fields: Fields of the payload, compared by ``==``.
            payload: The same as a mapping, for names that are keywords here, too; or a payload that is no mapping. Inner
                mappings name the fields to compare, as this one does.
            metadata: Fields of the event's metadata, such as ``{"namespace": "payments"}``.
            timeout: Seconds to wait for it, where the test can't wait for the task's result.

        Raises:
            AssertionError: if there is none, with what was published instead.
        """
        __tracebackhide__ = True
        wanted = _Wanted(event_name, payload, metadata, fields)
        deadline = time.monotonic() + timeout
        while True:
            found = self._all()
            for item in found:
                if wanted.is_met_by(item.event):
                    return item.event
            if time.monotonic() >= deadline:
                raise AssertionError(self._missed(wanted, found))
            time.sleep(_INTERVAL)

    def not_published(
        self,
        event_name: str | EventType[Any],
        /,
        *,
        payload: Any = _ANYTHING,
        metadata: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """Raise AssertionError if there is an event that :meth:`assert_published` would return."""
        __tracebackhide__ = True
        wanted = _Wanted(event_name, payload, metadata, fields)
        found = [item for item in self._all() if wanted.is_met_by(item.event)]
        if found:
            raise AssertionError("\n".join([f"{wanted} was published, and should not have been:", *list_of(found)]))

    def of(self, pattern: str | EventType[Any]) -> list[DomainEvent]:
        """Return the events whose names match the pattern, oldest first."""
        __tracebackhide__ = True
        checked = _pattern(pattern)
        return [item.event for item in self._all() if checked.matches(item.event.event_name)]

    def messages(self, pattern: str | EventType[Any] = "*") -> list[dict[str, Any]]:
        """Return the messages that would stand in PGMQ, as JSON data in the app's envelope; fast events have none."""
        __tracebackhide__ = True
        checked = _pattern(pattern)
        return [item.message for item in self._all() if item.message is not None and checked.matches(item.event.event_name)]

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[DomainEvent]:
        return iter([item.event for item in self._all()])

    def __repr__(self) -> str:
        return f"<{len(self._recorder.recorded)} recorded domain events>"

    def clear(self) -> None:
        """Forget the events so far; dead letters that were not expected are not forgotten."""
        self._settle()
        self._recorder.clear()

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """What could not be published, and was not expected; the test fails at its end if there is any."""
        self._settle()
        return self._recorder.dead_letters

    @contextlib.contextmanager
    def expect_dead_letter(
        self, pattern: str | EventType[Any] = "*", /, *, stage: str | None = None, match: str = ""
    ) -> Iterator[list[DeadLetter]]:
        """Expect that an event can't be published inside the ``with`` block.

        Args:
            pattern: Of the event's name.
            stage: Where it fails: ``"schema"``, ``"serialise"``, ``"size"``, the name of a publisher's hook, and so on.
            match: A part of the error's type and text.

        Returns:
            A list, filled at the end of the block: all dead letters of the block that are as expected.

        Raises:
            AssertionError: if there is none.
        """
        __tracebackhide__ = True
        checked, letters = _pattern(pattern), list[DeadLetter]()
        before = self.dead_letters
        yield letters
        new = [letter for letter in self.dead_letters if not any(letter is other for other in before)]
        for letter in new:
            told = f"{type(letter.error).__name__}: {letter.error}"
            if checked.matches(letter.event_name) and stage in (None, letter.stage) and match in told:
                self._recorder.take(letter)
                letters.append(letter)
        if not letters:
            wish = (
                f"No dead letter of {checked.text}{f' at stage {stage!r}' if stage else ''}{f' with {match!r}' if match else ''}"
            )
            others = [line for letter in new for line in told_letter(letter)]
            raise AssertionError("\n".join([f"{wish} came of this block.", *others, *self._published()]))

    def run_subscribers(self) -> None:
        """Let the apps' subscribers and streams hear fast and broadcast events from now on; at first they do not."""
        self._recorder.runs_subscribers = True

    def check(self) -> None:
        """Raise AssertionError, once, if there are dead letters that the test did not expect."""
        __tracebackhide__ = True
        self._settle()
        letters = self._recorder.dead_letters
        if letters:
            for letter in letters:
                self._recorder.take(letter)
            told = [line for letter in letters for line in told_letter(letter)]
            advice = "If that is meant: with domain_events.expect_dead_letter(...)."
            raise AssertionError("\n".join(["Domain events were not published:", *told, advice]))

    def summary(self) -> str:
        """Return what was published and what could not be, for the report of a test that has failed."""
        with contextlib.suppress(AssertionError):  # what never ends is no reason to say less
            self._settle()
        letters = [line for letter in self._recorder.dead_letters for line in told_letter(letter)]
        return "\n".join([*self._published(), *letters])

    def _all(self) -> list[Recorded]:
        __tracebackhide__ = True
        self._settle()
        return self._recorder.recorded

    def _settle(self) -> None:
        __tracebackhide__ = True
        settle(self._running, self.timeout)

    def _missed(self, wanted: _Wanted, found: list[Recorded]) -> str:
        if not attached_plugins():
            return (
                "No app in this process has domain events. Import the module that makes your Celery app, in the test or in"
                " conftest.py, and see that it has DomainEvents(app)."
            )
        named = [item for item in found if wanted.is_named(item.event)]
        lines = [f"{wanted} was not published."]
        if named:
            nearest = min(named, key=lambda item: len(wanted.differences(item.event)))
            lines += [f"The nearest of {len(named)}:", *list_of([nearest]), *table_of(wanted.differences(nearest.event))]
        else:
            lines[0] += did_you_mean(wanted.name, self._known_names())
        letters = [letter for letter in self._recorder.dead_letters if wanted.pattern.matches(letter.event_name)]
        lines += [line for letter in letters for line in told_letter(letter)]
        return "\n".join([*lines, *self._published()])

    def _published(self) -> list[str]:
        recorded = self._recorder.recorded
        if recorded:
            return ["Published:", *list_of(recorded)]
        if self._running.seen:
            return [f"Nothing was published; {self._running.seen} tasks ran in this process."]
        return ["Nothing was published, and no task ran in this process: is it eager, or its worker in this process?"]

    def _known_names(self) -> set[str]:
        known = {item.event.event_name for item in self._recorder.recorded}
        for plugin in attached_plugins():
            with contextlib.suppress(ConfigurationError):
                known |= {bound.declaration.name for bound in plugin.catalog.events()}
        return known


class _Wanted:
    """What a test asks for."""

    def __init__(
        self, event_name: str | EventType[Any], payload: Any, metadata: Mapping[str, Any] | None, fields: Mapping[str, Any]
    ) -> None:
        if fields and payload is not _ANYTHING:
            if not isinstance(payload, Mapping):
                raise TypeError("give fields by keywords, or a payload that is no mapping, not both")
            payload = {**payload, **fields}
        self.pattern = _pattern(event_name)
        self.name = self.pattern.text
        self._payload = dict(fields) if payload is _ANYTHING else payload
        self._is_any = payload is _ANYTHING and not fields
        self._metadata = metadata or {}

    def is_named(self, event: DomainEvent) -> bool:
        return self.pattern.matches(event.event_name)

    def is_met_by(self, event: DomainEvent) -> bool:
        return self.is_named(event) and not self.differences(event)

    def differences(self, event: DomainEvent) -> list[Difference]:
        found = [] if self._is_any else differences(self._payload, event.payload, "payload")
        return found + differences(self._metadata, {**event.metadata.extra, **vars(event.metadata)}, "metadata")

    def __str__(self) -> str:
        shown = []
        if not self._is_any:
            is_fields = isinstance(self._payload, Mapping)
            shown += [f"{key}={value!r}" for key, value in self._payload.items()] if is_fields else [f"payload={self._payload!r}"]
        if self._metadata:
            shown.append(f"metadata={dict(self._metadata)!r}")
        return self.name + (f" with {', '.join(shown)}" if shown else "")


def _pattern(event_name: str | EventType[Any]) -> Pattern:
    return Pattern(event_name.name if isinstance(event_name, EventType) else event_name)
