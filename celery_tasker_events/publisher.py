"""Publishers: they decide whether an event is published, and with which payload and metadata."""

from __future__ import annotations

import datetime
import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_tasker_events.declaration import EventDeclaration
from celery_tasker_events.errors import ConfigurationError, did_you_mean
from celery_tasker_events.event import DomainEvent, ExecutionResult, StepError

__all__ = ["BasePublisher", "GenericPublisher", "PublisherRegistry", "StepContext", "StepResult", "default_payload"]


@dataclass(frozen=True)
class StepResult(ExecutionResult):
    """How the step ended, as a publisher sees it.

    Attributes:
        result: What the step returned, as JSON data; None on failure.
        error_code: On failure, the exception's ``error_code`` attribute where it is a string, else its class' name.
    """

    result: Any = None
    error_code: str | None = None


@dataclass(frozen=True)
class StepContext:
    """Which step it was. ``args`` and ``kwargs`` are the task's arguments as JSON data, empty where they have no such form."""

    task_uuid: str | None
    step_uuid: str | None
    step_name: str | None
    task_name: str | None
    namespace: str
    correlation_id: str
    attempt: int
    redelivered: bool
    fired_at: datetime.datetime
    fired_by: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] | None = None


class BasePublisher:
    """Base of custom publishers: override the hooks that you need.

    Hooks run on the dispatcher's thread, never on the task's. One that raises is logged and counted, and its
    event is parked among the dead letters if it is durable; no other event is touched. Only those of an event that is
    published inside the caller's own transaction run on the caller's thread, and what they raise is raised there.
    """

    @property
    def name(self) -> str:
        """The name that a declaration's ``publisher`` field uses."""
        return type(self).__name__

    def should_publish(self, step_result: StepResult, declaration: EventDeclaration, context: StepContext) -> bool:
        """Return False to publish nothing."""
        return True

    def transform_payload(self, step_result: StepResult, declaration: EventDeclaration, context: StepContext) -> Any:
        """Return the payload: anything with a JSON form.

        By default the step's return value; for a failure ``{"error_code": ..., "reason": ...}``.
        """
        return default_payload(step_result.result, step_result.error, step_result.error_code)

    def additional_metadata(
        self, step_result: StepResult, declaration: EventDeclaration, context: StepContext
    ) -> Mapping[str, Any]:
        """Return what to add to the event's metadata; the standard fields can't be replaced."""
        return {}

    def before_publish(self, event: DomainEvent) -> bool | None:
        """Return False to veto the finished event."""
        return None

    def after_publish(self, event: DomainEvent) -> None:
        """Called when the event has been handed to its paths."""

    def on_publish_error(self, event: DomainEvent | None, declaration: EventDeclaration, error: BaseException) -> None:
        """Called when the event could not be published; ``event`` is None if it was not built yet."""


def default_payload(result: Any, error: StepError | None, error_code: str | None) -> Any:
    """The payload where no publisher has its own idea of it."""
    return result if error is None else {"error_code": error_code, "reason": error.message}


class GenericPublisher(BasePublisher):
    """The publisher of declarations that name none: the return value as it is."""


class PublisherRegistry:
    """Publishers by name. Frozen when the app starts."""

    def __init__(self) -> None:
        self._publishers: dict[str, BasePublisher] = {}
        self._generic = GenericPublisher()
        self._frozen = False

    def register(self, publisher: BasePublisher | type[BasePublisher]) -> None:
        """Make a publisher known by its ``name``.

        Raises:
            ConfigurationError: if it is no publisher, can't be made without arguments, comes too late, or its
                name is another's.
        """
        if self._frozen:
            raise ConfigurationError(f"publisher {publisher!r} was registered after the app had started")
        instance = _instance(publisher)
        other = self._publishers.setdefault(instance.name, instance)
        if type(other) is not type(instance):
            raise ConfigurationError(f"two publishers are named {instance.name!r}: {type(other)!r} and {type(instance)!r}")

    def freeze(self) -> None:
        self._frozen = True

    def resolve(self, name: str | None) -> BasePublisher:
        """Return the publisher of that name or import path; the generic one for None.

        Raises:
            ConfigurationError: if there is none.
        """
        if name is None:
            return self._generic
        found = self._publishers.get(name)
        if found is None:
            found = self._publishers[name] = self._import(name)
        return found

    def _import(self, name: str) -> BasePublisher:
        module_name, _, attribute = name.replace("::", ".").replace(":", ".").rpartition(".")
        if not module_name:
            raise ConfigurationError(
                f"unknown publisher {name!r}.{did_you_mean(name, self._publishers)} Register it with "
                "events.register_publisher or tasker_events_publishers, or give its import path"
            )
        try:
            return _instance(getattr(importlib.import_module(module_name), attribute))
        except ConfigurationError:
            raise
        except Exception as error:
            raise ConfigurationError(f"publisher {name!r} can't be imported: {type(error).__name__}: {error}") from error


def _instance(publisher: Any) -> BasePublisher:
    if isinstance(publisher, type) and issubclass(publisher, BasePublisher):
        try:
            return publisher()
        except Exception as error:
            raise ConfigurationError(f"publisher {publisher!r} can't be made: {type(error).__name__}: {error}") from error
    if isinstance(publisher, BasePublisher):
        return publisher
    raise ConfigurationError(f"{publisher!r} is no publisher: derive it from celery_tasker_events.BasePublisher")


def register_all(registry: PublisherRegistry, import_paths: Iterable[str]) -> list[str]:
    """Register publishers by import path; return what is wrong with each that can't be."""
    problems = []
    for path in import_paths:
        try:
            registry.register(registry.resolve(path))
        except ConfigurationError as error:
            problems.append(str(error))
    return problems
