"""Subscribers that are classes: what they subscribe to, and their hooks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from celery_tasker_events.bus.registry import SubscriberRegistry
from celery_tasker_events.bus.subscriber import BaseSubscriber
from celery_tasker_events.event import DomainEvent

from ..making import make_event
from .bench import LONG, Bench


class Recorder(BaseSubscriber):
    subscribes_to: Any = "payment.*"

    def __init__(self) -> None:
        self.told: list[Any] = []

    def handle(self, event: DomainEvent) -> None:
        self.told.append(event.event_name)


class Several(Recorder):
    subscribes_to: ClassVar[Any] = ["payment.*", "order.placed", "*.processed"]


class ByMethod(Recorder):
    def subscribes_to(self) -> list[str]:
        return ["payment.*", "order.placed"]


class ByClassMethod(Recorder):
    @classmethod
    def subscribes_to(cls) -> tuple[str, ...]:
        return ("payment.*", "order.placed")


class ByProperty(Recorder):
    @property
    def subscribes_to(self) -> set[str]:
        return {"payment.*", "order.placed"}


@pytest.mark.parametrize("cls", [Several, ByMethod, ByClassMethod, ByProperty])
def test_a_class_gets_each_event_that_one_of_its_patterns_matches_once(bench: Bench, cls: type[Recorder]) -> None:
    recorder = bench.registry.register(cls)
    assert isinstance(recorder, Recorder)

    for name in ("payment.processed", "order.placed", "order.cancelled"):
        bench.bus.publish(make_event(name))

    assert bench.bus.drain(LONG)
    assert recorder.told == ["payment.processed", "order.placed"]


class Hooked(Recorder):
    def __init__(self, *, raising: str = "", wanted: object = True) -> None:
        super().__init__()
        self.raising = raising
        self.wanted = wanted

    def _step(self, name: str) -> None:
        self.told.append(name)
        if name == self.raising:
            raise ValueError(f"{name} is broken")

    def before_handle(self, event: DomainEvent) -> object:
        self._step("before")
        return self.wanted

    def handle(self, event: DomainEvent) -> None:
        self._step("handle")

    def after_handle(self, event: DomainEvent) -> None:
        self._step("after")

    def on_handle_error(self, event: DomainEvent, error: BaseException) -> None:
        self.told.append(str(error))


@pytest.mark.parametrize(
    ("options", "told", "counted"),
    [
        ({}, ["before", "handle", "after"], ("dispatched", "")),
        ({"wanted": None}, ["before", "handle", "after"], ("dispatched", "")),
        ({"wanted": False}, ["before"], ("skipped", "before_handle")),
        ({"raising": "before"}, ["before", "before is broken"], ("failed", "subscriber error")),
        ({"raising": "handle"}, ["before", "handle", "handle is broken"], ("failed", "subscriber error")),
        ({"raising": "after"}, ["before", "handle", "after", "after is broken"], ("failed", "subscriber error")),
    ],
)
def test_the_hooks_are_called_around_handle_and_told_of_errors(
    bench: Bench, options: dict[str, Any], told: list[str], counted: tuple[str, str]
) -> None:
    hooked = Hooked(**options)
    bench.registry.register(hooked)

    bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    assert hooked.told == told
    assert bench.count(*counted) == 1
    assert sum(bench.counters.snapshot().values()) == 1


def test_an_error_in_the_hook_about_errors_does_not_hide_the_first(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    class Hopeless(Hooked):
        def on_handle_error(self, event: DomainEvent, error: BaseException) -> None:
            raise SystemExit("hopeless")

    bench.registry.register(Hopeless(raising="handle"))
    bench.bus.publish(make_event())

    assert bench.bus.drain(LONG)
    assert bench.count("failed", "subscriber error") == 1
    hook, failure = [record.getMessage() for record in caplog.records]
    assert "Hook on_handle_error of subscriber" in hook
    assert failure.endswith("ValueError: handle is broken")


def test_the_same_class_or_object_is_registered_once_and_two_objects_twice() -> None:
    registry = SubscriberRegistry()
    one, other = Recorder(), Recorder()

    assert registry.register(Recorder) is registry.register(Recorder)
    assert registry.register(one) is registry.register(one) is one
    registry.register(other)

    assert len(registry.all()) == 3


def test_a_class_or_an_object_is_unsubscribed_by_what_it_was_registered_with() -> None:
    registry = SubscriberRegistry()
    one = Recorder()
    registry.register(one)
    registry.register(Recorder)

    assert registry.remove(Recorder) is True
    assert [subscription.handler for subscription in registry.all()] == [one]
    assert registry.remove(one) is True
    assert registry.remove(one) is False
    assert registry.all() == ()


def test_of_two_objects_that_are_equal_only_the_one_meant_is_unsubscribed() -> None:
    @dataclass
    class Channel(BaseSubscriber):
        subscribes_to: Any = "*"

        def handle(self, event: DomainEvent) -> None: ...

    registry = SubscriberRegistry()
    one, other = registry.register(Channel()), registry.register(Channel())
    assert one == other

    registry.remove(one)

    [left] = registry.all()
    assert left.handler is other


class WithoutPattern(Recorder):
    subscribes_to = ()


class BadPattern(Recorder):
    subscribes_to = ("payment.*", "payment")


class NestedPatterns(Recorder):
    subscribes_to = (["payment.*"],)


class WithoutHandle(BaseSubscriber):
    subscribes_to = "*"


class Demanding(Recorder):
    def __init__(self, channel: str) -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        (WithoutPattern, ValueError, r"WithoutPattern\.subscribes_to: no pattern is given"),
        (BadPattern, ValueError, r"BadPattern\.subscribes_to: bad pattern 'payment'"),
        (NestedPatterns, ValueError, r"NestedPatterns\.subscribes_to: bad pattern \['payment\.\*'\]"),
        (WithoutHandle, TypeError, r"WithoutHandle has no method handle\(self, event\)"),
        (Demanding, TypeError, r"Demanding can't be made without arguments \(.*channel.*\): register an object"),
        (print, TypeError, r"neither a class derived from BaseSubscriber nor an object .* @events\.subscribe"),
        (dict, TypeError, "neither a class derived from BaseSubscriber"),
    ],
)
def test_a_subscriber_that_can_not_work_is_refused_at_once(wrong: Any, error: type[Exception], told: str) -> None:
    registry = SubscriberRegistry()

    with pytest.raises(error, match=told):
        registry.register(wrong)
    assert registry.all() == ()
