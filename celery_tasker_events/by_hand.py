"""``events.publish``: the event's declaration, the step or the caller that it belongs to, and the way that it goes."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, overload

from celery import current_task

from celery_tasker_events.binding import BoundEvent
from celery_tasker_events.building import Publication
from celery_tasker_events.catalog import Catalog
from celery_tasker_events.declaration import DeliveryMode, EventDeclaration
from celery_tasker_events.durable.confirmation import Confirmation
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.event import new_event_id
from celery_tasker_events.event_type import EventType
from celery_tasker_events.outcome import OutcomeKind, Snapshot, idempotency_key, observe
from celery_tasker_events.process import current_diversion
from celery_tasker_events.propagation import workflow_of
from celery_tasker_events.running import running_step
from celery_tasker_events.telemetry.log import current_error_fields, logger

if TYPE_CHECKING:
    from celery_tasker_events.durable.transaction import AsyncConnection, SyncConnection
    from celery_tasker_events.runtime import Runtime
    from celery_tasker_events.settings import Settings

__all__ = ["PublishesByHand"]

P = TypeVar("P")

#: Attribute of a task request: how often this attempt has published each event by hand.
_PUBLISHED_BY_HAND = "_tasker_events_by_hand"


class PublishesByHand(ABC):
    """The part of :class:`~celery_tasker_events.DomainEvents` that publishes by hand."""

    @property
    @abstractmethod
    def settings(self) -> Settings: ...

    @property
    @abstractmethod
    def catalog(self) -> Catalog: ...

    @abstractmethod
    def put(self, publication: Publication) -> bool: ...

    @abstractmethod
    def _current_runtime(self) -> Runtime: ...

    @abstractmethod
    def _declare(self, declaration: EventDeclaration) -> None: ...

    def declare(
        self,
        name: str,
        schema: type[P],
        *,
        namespace: str | None = None,
        delivery_mode: DeliveryMode | str = DeliveryMode.DURABLE,
        version: str = "1.0",
        description: str = "",
        publisher: str | None = None,
        confirm: bool = False,
    ) -> EventType[P]:
        """Declare an event that is published by hand, with the class of its payload.

        It is in the catalog then, ``domain-events setup`` creates its queue, and a type checker knows what its payload is:
        ``flagged = events.declare("payment.flagged", PaymentFlagged)``, then ``events.publish(flagged, PaymentFlagged(…))``.

        Args:
            schema: A pydantic model, a dataclass or a TypedDict. What is wrong with it is told when the app starts.
            namespace: By default ``tasker_events_namespace``.
            confirm: Wait until it is committed, up to ``tasker_events_confirm_timeout_ms``.

        Raises:
            DeclarationError: if a field is wrong, or the name is declared already.
        """
        fields = {"name": name, "schema": schema, "namespace": namespace, "delivery_mode": delivery_mode, "version": version}
        fields |= {"description": description, "publisher": publisher, "confirm": confirm}
        declaration = EventDeclaration.from_mapping(fields)
        self._declare(declaration)
        return EventType(declaration, schema)

    @overload
    def publish(
        self,
        event_name: str,
        payload: Any,
        *,
        namespace: str | None = None,
        delivery_mode: DeliveryMode | str | None = None,
        correlation_id: str | None = None,
        idempotency_key: str | None = None,
        confirm: bool = False,
        connection: SyncConnection | None = None,
    ) -> str | None: ...
    @overload
    def publish(
        self,
        event_name: str,
        payload: Any,
        *,
        namespace: str | None = None,
        delivery_mode: DeliveryMode | str | None = None,
        correlation_id: str | None = None,
        idempotency_key: str | None = None,
        confirm: bool = False,
        connection: AsyncConnection,
    ) -> Coroutine[Any, Any, str | None]: ...
    @overload
    def publish(
        self,
        event: EventType[P],
        payload: P,
        /,
        *,
        delivery_mode: DeliveryMode | str | None = None,
        correlation_id: str | None = None,
        idempotency_key: str | None = None,
        confirm: bool = False,
        connection: SyncConnection | None = None,
    ) -> str | None: ...
    @overload
    def publish(
        self,
        event: EventType[P],
        payload: P,
        /,
        *,
        delivery_mode: DeliveryMode | str | None = None,
        correlation_id: str | None = None,
        idempotency_key: str | None = None,
        confirm: bool = False,
        connection: AsyncConnection,
    ) -> Coroutine[Any, Any, str | None]: ...
    def publish(
        self,
        event_name: str | EventType[Any],
        payload: Any,
        *,
        namespace: str | None = None,
        delivery_mode: DeliveryMode | str | None = None,
        correlation_id: str | None = None,
        idempotency_key: str | None = None,
        confirm: bool = False,
        connection: SyncConnection | AsyncConnection | None = None,
    ) -> str | Coroutine[Any, Any, str | None] | None:
        """Publish an event by hand: from inside a task, which it then belongs to, or from anywhere else.

        An event that a template declares under ``domain_events`` is published as declared: with its schema, publisher,
        namespace and mode. Any other is durable, in the namespace of the running task's events, unless told otherwise.

        Args:
            event_name: Its name, or what :meth:`declare` returned.
            payload: Anything with a JSON form, see ``celery_tasker_events.values``.
            idempotency_key: By default made of the attempt, the event's name and how often it was published by it.
            confirm: Wait until it is committed, up to ``tasker_events_confirm_timeout_ms``.
            connection: Write the event with this connection, in its transaction, which commits or rolls back both: a psycopg
                connection, an SQLAlchemy Connection or Session, or Django's. What an asynchronous one returns is awaited.

        Returns:
            The event's id. Without a connection it is None if the event could not be accepted, which is logged and counted;
            nothing is ever raised. With one, None says that a hook of its publisher decided against it.

        Raises:
            PublishingError: with a connection, if the event can't be written as it is, or not with such a connection.
            ConfigurationError: with a connection, if a name is wrong, or the event is not durable.
            PgmqMissing: with a connection, if its database has no PGMQ.
            Exception: with a connection, whatever that or a publisher's hook raises.
        """
        if connection is not None:
            bound = _bound(self.catalog, event_name, namespace, delivery_mode, self.settings.namespace)
            _check_transactional(bound, confirm=confirm)
            return self._write(bound, payload, correlation_id, idempotency_key, connection)
        try:
            bound = _bound(self.catalog, event_name, namespace, delivery_mode, self.settings.namespace)
            if confirm and bound.declaration.delivery_mode.reaches_pgmq:
                bound = dataclasses.replace(bound, confirm=True)
            publication = _publication(bound, payload, correlation_id, idempotency_key)
            return publication.event_id if self.put(publication) else None
        except Exception as error:
            name = event_name.name if isinstance(event_name, EventType) else event_name
            fields = {"event_name": name, "namespace": namespace, "correlation_id": correlation_id}
            extra = {**fields, **current_error_fields()}
            logger.warning("Domain event %r was not published by hand", name, exc_info=True, extra=extra)
            if (diversion := current_diversion()) is not None:
                diversion.refused(name, error)
            return None

    def _write(
        self, bound: BoundEvent, payload: Any, correlation_id: str | None, key: str | None, connection: object
    ) -> str | Coroutine[Any, Any, str | None] | None:
        runtime = self._current_runtime()
        # The runtime, which is imported when it is made, has imported it already.
        from celery_tasker_events.durable.transaction import AsyncAdapter

        adapter, transactional = runtime.adapter_of(connection), runtime.transactional
        publication = runtime.stamped(_publication(bound, payload, correlation_id, key))
        if isinstance(adapter, AsyncAdapter):
            return transactional.publish_async(publication, adapter)
        return transactional.publish(publication, adapter)


def _bound(
    catalog: Catalog,
    event_name: str | EventType[Any],
    namespace: str | None,
    mode: DeliveryMode | str | None,
    default_namespace: str,
) -> BoundEvent:
    """Return the event as a template declares it, or one that nobody declared.

    Args:
        default_namespace: Of an undeclared event outside of a task that has events.

    Raises:
        ConfigurationError: if the event's name or another field is wrong.
    """
    if isinstance(event_name, EventType):
        return _bound_type(catalog, event_name, mode)
    step = running_step()
    # The innermost task may be one that the step has called like a function: the namespace is its own.
    task = current_task
    workflow = workflow_of(step.request.__dict__ if step else {})
    declared = catalog.declared_by_hand(event_name, workflow)
    if declared is not None and namespace in (None, declared.namespace):
        return declared if mode is None else _in_mode(declared, mode)
    events = catalog.events_of(task) if task else ()
    return catalog.bind_by_hand(
        event_name,
        namespace or (events[0].namespace if events else default_namespace),
        _step_name(catalog, step.task if step else task),
        delivery_mode=mode.value if isinstance(mode, DeliveryMode) else mode,
    )


def _step_name(catalog: Catalog, task: Any) -> str | None:
    if not task:
        return None
    events = catalog.events_of(task)
    return events[0].step_name if events else str(task.name).rpartition(".")[2]


def _bound_type(catalog: Catalog, event: EventType[Any], mode: DeliveryMode | str | None) -> BoundEvent:
    declared = catalog.declared_in_python(event.name)
    if declared is None:
        raise ConfigurationError(f"event {event.name!r} is not declared by this app's events.declare, or wrongly: see its check")
    return declared if mode is None else _in_mode(declared, mode)


def _publication(bound: BoundEvent, payload: Any, correlation_id: str | None, key: str | None) -> Publication:
    """Return the publication of an event by the running task, or by nobody where none is running.

    Args:
        key: Its idempotency key, or None to make one.
    """
    event_id = new_event_id()
    snapshot = Snapshot.of(payload)
    step = running_step()
    if step is not None:
        task, request = step
        outcome = observe(OutcomeKind.BY_HAND, task.name, request.id, request, result=snapshot)
        counts = request.__dict__.setdefault(_PUBLISHED_BY_HAND, {})
        counts[bound.declaration.name] = sequence = counts.get(bound.declaration.name, 0) + 1
        key = key or idempotency_key(outcome, bound.namespace, bound.declaration.name, sequence)
    else:
        outcome = observe(OutcomeKind.BY_HAND, "", event_id, _Nowhere(), result=snapshot)
        outcome = outcome._replace(task_uuid=None, step_uuid=None, task_name=None)
        key = key or event_id
    if correlation_id is not None:
        outcome = outcome._replace(correlation_id=correlation_id)
    return Publication(outcome, (bound,), event_id, key, Confirmation(1) if bound.confirm else None)


def _check_transactional(bound: BoundEvent, *, confirm: bool) -> None:
    """Raise ConfigurationError where an event can't go with the caller's transaction alone."""
    name, mode = bound.declaration.name, bound.declaration.delivery_mode
    if mode.reaches_bus:
        raise ConfigurationError(
            f"{name} is {mode.value}: subscribers can't be told of it before the transaction is committed, and the commit is "
            "yours. Publish it with delivery_mode='durable', and what subscribers are to hear after the commit, as another event"
        )
    if confirm:
        raise ConfigurationError(f"{name}: confirm=True waits for a commit, but with connection=... the commit is yours")


def _in_mode(bound: BoundEvent, mode: DeliveryMode | str) -> BoundEvent:
    checked = EventDeclaration.from_mapping({"name": bound.declaration.name, "delivery_mode": mode}).delivery_mode
    declaration = dataclasses.replace(bound.declaration, delivery_mode=checked)
    return dataclasses.replace(bound, declaration=declaration, confirm=bound.confirm and checked.reaches_pgmq)


class _Nowhere:
    """Stands for the request where there is none."""
