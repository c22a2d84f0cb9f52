"""The catalog: which Celery task publishes which events, worked out once so that a signal needs one dict look-up."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from celery import current_app
from kombu.utils.imports import symbol_by_name

from celery_tasker_events.binding import EMPTY, BoundEvent, BoundStep
from celery_tasker_events.declaration import (
    DeclarationError,
    DeclaredEvent,
    EventDeclaration,
    declarations_of,
    declared_proxies,
    namespace_problem,
)
from celery_tasker_events.errors import ConfigurationError, Problem
from celery_tasker_events.forking import ForkLock
from celery_tasker_events.payload_class import schema_of_class
from celery_tasker_events.publisher import BasePublisher, PublisherRegistry
from celery_tasker_events.step_task import ambiguous, task_of, unknown
from celery_tasker_events.telemetry.log import logger

if TYPE_CHECKING:
    from celery import Celery, Task

    from celery_tasker_events.record import EventReference
    from celery_tasker_events.schema import PayloadValidator
    from celery_tasker_events.settings import Settings
    from celery_tasker_events.template import StepTemplate, TaskTemplate

__all__ = ["Catalog"]


class Catalog:
    """Declarations of one app, from its templates and its tasks' decorators, bound to its tasks.

    Args:
        settings: Where the templates are, and the default namespace.
        publishers: Resolves the declarations' ``publisher`` names.
        by_hand: What ``events.declare`` declared.
        lock: Held while it changes; by default its own.
        on_start_needed: Called when there is first an event that may need to know when its step began.

    Attributes:
        problems: What is wrong with any of it. Events that are all right are bound nevertheless.
        needs_starts: Whether there is such an event.
    """

    def __init__(
        self,
        app: Celery,
        settings: Settings,
        publishers: PublisherRegistry,
        by_hand: Iterable[EventDeclaration] = (),
        lock: ForkLock | None = None,
        on_start_needed: Callable[[], None] = lambda: None,
    ) -> None:
        self.needs_starts = False
        self._on_start_needed = on_start_needed
        self._app = app
        self._settings = settings
        self._publishers = publishers
        self._steps: dict[str, BoundStep] = {}
        self._by_hand: dict[str, list[BoundEvent]] = {}
        self._lock = lock or ForkLock()
        #: Warnings are what may be meant as it is.
        self.templates, self.problems, self.warnings = _load_templates(settings)
        self._from_templates: dict[str, list[BoundEvent]] = {}
        self._waiting_steps: list[tuple[TaskTemplate, StepTemplate]] = []
        self._retryable = self._classes(settings.retryable, "tasker_events_retryable")
        for template in self.templates:
            self._bind_template(template)
        for declaration in by_hand:
            self._bind_declared(declaration)
        for name in list(app.tasks):
            if not name.startswith("celery."):
                self._steps[name] = self._bind_task(app.tasks[name])
        #: Steps of templates whose task this process does not know: a mistake in a worker, usual in a mere caller.
        self.unbound = [unknown(step, app.tasks) for _, step in self._waiting_steps]
        self.warnings.extend(_shared_warning(name, step) for name, step in self.steps().items() if step.is_shared)

    def step(self, task: Task) -> BoundStep:
        """The events of a task; one that was defined after the app was finalized is bound when it first ends."""
        bound = self._steps.get(task.name)
        return bound if bound is not None else self._bind_late(task)

    def declared_by_hand(self, event_name: str, workflow: str | None = None) -> BoundEvent | None:
        """The task-level declaration of an event that is published by hand: of several templates, the workflow's."""
        declared = self._by_hand.get(event_name, ())
        if len(declared) == 1:
            return declared[0]
        return next((bound for bound in declared if bound.workflow == workflow), None)

    def declared_in_python(self, event_name: str) -> BoundEvent | None:
        """What ``events.declare`` declared by that name."""
        return next((bound for bound in self._by_hand.get(event_name, ()) if bound.workflow is None), None)

    def declare(self, declaration: EventDeclaration) -> None:
        """Add an event that is published by hand, after the app has been finalized: what is wrong is logged."""
        with self._lock:
            known = len(self.problems)
            self._bind_declared(declaration)
            for problem in self.problems[known:]:
                logger.warning("%s", problem)

    def bind_by_hand(self, event_name: str, namespace: str, step_name: str | None, **fields: Any) -> BoundEvent:
        """Bind an event that nobody declared.

        Raises:
            ConfigurationError: if its name or another field is wrong.
        """
        declaration = EventDeclaration.from_mapping({"name": event_name, **fields})
        if problem := namespace_problem(namespace):
            raise ConfigurationError(problem)
        self._need_starts()
        return self._bound(declaration, namespace, step_name, None)

    def events_of(self, task: Task) -> tuple[BoundEvent, ...]:
        """The events of a task of this app; a task of another one has none here, whatever its name."""
        return self.step(task).events if task.app is self._app else ()

    def find(self, reference: EventReference) -> BoundEvent:
        """Find an event again that was bound before, maybe in another process.

        Raises:
            ConfigurationError: if the app does not declare it any more.
        """
        if reference.by_hand:
            declared = self.declared_by_hand(reference.event_name, reference.workflow)
            if declared is not None and declared.namespace == reference.namespace:
                return declared
            step_name, mode = reference.step_name, reference.delivery_mode
            return self.bind_by_hand(reference.event_name, reference.namespace, step_name, delivery_mode=mode)
        for bound in self._steps.get(reference.task_name or "", EMPTY).events:
            found = (bound.declaration.name, bound.namespace, bound.workflow, bound.declaration.condition.value)
            if found == (reference.event_name, reference.namespace, reference.workflow, reference.condition):
                return bound
        raise ConfigurationError(f"task {reference.task_name} does not declare event {reference.event_name!r} any more")

    def workflows(self) -> set[str]:
        """The workflows that templates describe, as ``namespace/name``."""
        return {template.workflow for template in self.templates}

    def steps(self) -> Mapping[str, BoundStep]:
        """All bound steps that publish something, by task name."""
        return {name: step for name, step in sorted(self._steps.items()) if step.events}

    def events(self) -> Iterator[BoundEvent]:
        """All bound events, those published by hand included."""
        for step in self.steps().values():
            yield from step.events
        yield from self.events_by_hand()

    def events_by_hand(self) -> Iterator[BoundEvent]:
        """The bound task-level events of the templates, and those that ``events.declare`` declared."""
        for declared in self._by_hand.values():
            yield from declared

    def durable_namespaces(self, *, by_hand: bool = True) -> set[str]:
        """The namespaces of the declared durable events.

        Args:
            by_hand: Whether those that are published by hand count.
        """
        events = self.events() if by_hand else (event for step in self.steps().values() for event in step.events)
        return {event.namespace for event in events if event.declaration.delivery_mode.reaches_pgmq}

    def _bind_late(self, task: Task) -> BoundStep:
        with self._lock:
            if task.name not in self._steps:
                known = len(self.problems)
                late, self._waiting_steps = self._waiting_steps, []
                for template, step in late:
                    self._bind_step(template, step)
                self._steps[task.name] = EMPTY if task.name.startswith("celery.") else self._bind_task(task)
                for problem in self.problems[known:]:
                    logger.warning("%s", problem)
            return self._steps[task.name]

    def _bind_task(self, task: Task) -> BoundStep:
        events = list(self._from_templates.get(task.name, ()))
        for declaration in (*_declared_on_shared(self._app, task), *declarations_of(task)):
            declared = DeclaredEvent(declaration, f"task {task.name}", None, {})
            events.extend(self._bind(declared, self._settings.namespace, task.name.rpartition(".")[2], None))
        if not events:
            return EMPTY
        own = self._classes(getattr(task, "tasker_events_retryable", ()), f"task {task.name}: tasker_events_retryable")
        step = BoundStep(events, self._retryable + own)
        self.problems.extend(_repeated_problem(task.name, event) for event in step.repeated())
        return step

    def _bind_template(self, template: TaskTemplate) -> None:
        for declared in template.events:
            self._need_starts()
            for bound in self._bind(declared, template.namespace, None, template.workflow):
                same = self._by_hand.setdefault(bound.declaration.name, [])
                if any(other.workflow == bound.workflow for other in same):
                    self._report(declared, "name", "is declared as a task-level event twice")
                same.append(bound)
        for step in template.steps:
            if step.events:
                self._bind_step(template, step)

    def _bind_declared(self, declaration: EventDeclaration) -> None:
        declared = DeclaredEvent(declaration, "events.declare", None, {})
        self._need_starts()
        for bound in self._bind(declared, self._settings.namespace, None, None):
            self._by_hand.setdefault(declaration.name, []).append(bound)

    def _need_starts(self) -> None:
        if not self.needs_starts:
            self.needs_starts = True
            self._on_start_needed()

    def _bind_step(self, template: TaskTemplate, step: StepTemplate) -> None:
        if any(declared.declaration.needs_start for declared in step.events):
            self._need_starts()
        found = task_of(step, self._app.tasks)
        if found is None:
            # Its task may be defined later.
            self._waiting_steps.append((template, step))
        elif isinstance(found, list):
            self.problems.append(ambiguous(step, found))
        else:
            bound_events = self._from_templates.setdefault(found, [])
            for declared in step.events:
                bound_events.extend(self._bind(declared, template.namespace, step.name, template.workflow))

    def _classes(self, wanted: Iterable[type[BaseException] | str], source: str) -> tuple[type[BaseException], ...]:
        classes: list[type[BaseException]] = []
        for item in wanted:
            found = _imported(item) if isinstance(item, str) else item
            if isinstance(found, type) and issubclass(found, BaseException):
                classes.append(found)
            else:
                self.problems.append(Problem(f"{item!r} is no exception class, nor the import path of one", source))
        return tuple(classes)

    def _bind(self, declared: DeclaredEvent, namespace: str, step_name: str | None, workflow: str | None) -> Iterable[BoundEvent]:
        """The bound event, or nothing where it is wrong, which is then among the problems."""
        try:
            return [self._bound(declared.declaration, declared.declaration.namespace or namespace, step_name, workflow)]
        except DeclarationError as error:
            for field, message in error.by_field:
                self._report(declared, field, message)
            return []

    def _report(self, declared: DeclaredEvent, field: str | None, message: str) -> None:
        line = declared.field_lines.get(field, declared.line) if field else declared.line
        self.problems.append(Problem(f"event {declared.declaration.name!r}: {message}", declared.source, line))

    def _bound(self, declaration: EventDeclaration, namespace: str, step_name: str | None, workflow: str | None) -> BoundEvent:
        problems: list[tuple[str | None, str]] = []
        publisher: BasePublisher | None = None
        validator: PayloadValidator | None = None
        try:
            publisher = self._publishers.resolve(declaration.publisher)
        except ConfigurationError as error:
            problems.append(("publisher", str(error)))
        try:
            schema = declaration.schema
            if isinstance(schema, type):
                schema = schema_of_class(schema)
                declaration = dataclasses.replace(declaration, schema=schema)
            validator = None if schema is None else _validator(schema)
        except ConfigurationError as error:
            problems.append(("schema", str(error)))
        if problems or publisher is None:
            raise DeclarationError(problems)
        confirm = (declaration.confirm or self._settings.confirm) and declaration.delivery_mode.reaches_pgmq
        return BoundEvent(declaration, namespace, step_name, publisher, validator, confirm, workflow)


def _load_templates(settings: Settings) -> tuple[list[TaskTemplate], list[Problem], list[Problem]]:
    if not settings.templates:
        return [], [], []
    # Imported here, as the next one is: an app without templates needs nothing that reads them.
    from celery_tasker_events.template import load_templates

    return load_templates(settings.templates, settings.environment)


def _validator(schema: Mapping[str, Any]) -> PayloadValidator:
    # Imported here: jsonschema takes longer than the rest of the catalog, and a process that only calls tasks needs none.
    from celery_tasker_events.schema import PayloadValidator

    return PayloadValidator(schema)


def _imported(path: str) -> object:
    try:
        return symbol_by_name(path)  # type: ignore[no-untyped-call]  # kombu has few type hints
    except (ImportError, AttributeError, ValueError):
        return None


def _shared_warning(name: str, step: BoundStep) -> Problem:
    message = (
        f"serves {len(step.workflows)} templates ({', '.join(step.workflows)}): send it inside "
        f"events.workflow({step.workflows[0]!r}) or another of them, else only its decorators' events are published"
    )
    return Problem(message, f"task {name}")


def _repeated_problem(task_name: str, event: BoundEvent) -> Problem:
    name = event.declaration.name
    message = (
        f"event {name!r} is due twice on one outcome, in namespace {event.namespace!r}: who gets both takes the second for a "
        "repetition of the first. Give one of them another name, or conditions of which only one is met"
    )
    return Problem(message, f"task {task_name}")


def _declared_on_shared(app: Celery, task: Task) -> Iterator[EventDeclaration]:
    """What was declared on the proxy that ``shared_task`` returned: which task it stands for depends on the app."""
    proxies = declared_proxies()
    if not proxies:
        return
    before = current_app._get_current_object()
    app.set_current()
    try:
        of_task = [(proxy, declarations) for proxy, declarations in proxies if _stands_for(proxy, task)]
    finally:
        before.set_current()
    for proxy, declarations in of_task:
        # Where a module was loaded anew there are several proxies, and what the last one declares holds.
        if proxy is of_task[-1][0]:
            yield from declarations


def _stands_for(proxy: Any, task: Task) -> bool:
    try:
        return proxy._get_current_object() is task
    except KeyError:  # a task that this app does not have
        return False
