"""Checks task templates, and with an app also what they are bound to; what the ``check`` command reports."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_tasker_events.catalog import Catalog
from celery_tasker_events.contract.entry import CatalogEntry
from celery_tasker_events.contract.templates import template_entries
from celery_tasker_events.declaration import DeclaredEvent, EventDeclaration
from celery_tasker_events.errors import ConfigurationError, Problem
from celery_tasker_events.plugin import DomainEvents
from celery_tasker_events.publisher import PublisherRegistry
from celery_tasker_events.schema import PayloadValidator
from celery_tasker_events.template import TaskTemplate, load_templates

__all__ = ["Report", "check_app", "check_files"]


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        errors: What keeps an app from starting.
        warnings: What is accepted, and is likely a mistake.
        notes: What could not be checked.
        tasks: The Celery task of each step that has events, by workflow and step name; empty without an app.
        decorated: Events that are declared in Python, described.
    """

    templates: Sequence[TaskTemplate]
    errors: Sequence[Problem]
    warnings: Sequence[Problem]
    notes: Sequence[Problem] = ()
    tasks: Mapping[tuple[str, str], str] = dataclasses.field(default_factory=dict)
    decorated: Sequence[Mapping[str, Any]] = ()

    def steps(self) -> list[dict[str, Any]]:
        """The templates' steps, as JSON data."""
        return [
            {
                "name": step.name,
                "template": template.workflow,
                "handler": step.task or step.callable,
                "task": self.tasks.get((template.workflow, step.name)),
                "file": step.source,
                "line": step.line,
            }
            for template in self.templates
            for step in template.steps
        ]

    def events(self) -> list[Mapping[str, Any]]:
        """All events, as JSON data: those of the templates, then those of decorators."""
        located = [
            {**entry.as_json(), "file": declared.source, "line": declared.line} for entry, declared in self._template_entries()
        ]
        return [*located, *self.decorated]

    def entries(self) -> list[CatalogEntry]:
        """The events of the templates."""
        return [entry for entry, _ in self._template_entries()]

    def _template_entries(self) -> Iterator[tuple[CatalogEntry, DeclaredEvent]]:
        for template in self.templates:
            yield from template_entries(template, self.tasks)


def check_files(files: Iterable[str], environment: str | None) -> Report:
    """Check templates by themselves: the names of tasks and registered publishers can't be looked up."""
    loaded = load_templates(files, environment)
    registry = PublisherRegistry()
    errors = list(loaded.problems)
    notes: list[Problem] = []
    for declared in _declared(loaded.templates):
        declaration = declared.declaration
        for field, message in _problems(declaration, registry):
            errors.append(_at(declared, field, message))
        if declaration.publisher and not _is_import_path(declaration.publisher):
            notes.append(_at(declared, "publisher", f"publisher {declaration.publisher!r} is not looked up without an app"))
    return Report(loaded.templates, errors, loaded.warnings, notes)


def check_app(plugin: DomainEvents, files: Sequence[str], environment: str | None) -> Report:
    """Check the app's declarations with its templates, or with these files in their place."""
    try:
        settings = plugin.settings
        if files:
            settings = dataclasses.replace(settings, templates=files)
        if environment is not None:
            settings = dataclasses.replace(settings, environment=environment)
        catalog = plugin.compile(settings)
    except ConfigurationError as error:
        return Report((), error.problems, ())
    entries = list(entries_of(catalog))
    tasks = {(entry.template, entry.step): entry.task for entry in entries if entry.template and entry.step and entry.task}
    decorated = [{**entry.as_json(), "file": None, "line": None} for entry in entries if entry.template is None]
    return Report(catalog.templates, [*catalog.problems, *catalog.unbound], catalog.warnings, tasks=tasks, decorated=decorated)


def entries_of(catalog: Catalog) -> Iterator[CatalogEntry]:
    """The events of a compiled catalog: those of each task, then those that are published by hand."""
    versions = {template.workflow: template.version for template in catalog.templates}
    bound_events = [(task, bound) for task, step in catalog.steps().items() for bound in step.events]
    for task, bound in [*bound_events, *((None, bound) for bound in catalog.events_by_hand())]:
        yield CatalogEntry.of(
            bound.declaration,
            bound.namespace,
            task=task,
            step=bound.step_name,
            workflow=bound.workflow,
            template_version=versions.get(bound.workflow or ""),
        )


def _declared(templates: Iterable[TaskTemplate]) -> Iterator[DeclaredEvent]:
    for template in templates:
        yield from template.events
        for step in template.steps:
            yield from step.events


def _problems(declaration: EventDeclaration, registry: PublisherRegistry) -> Iterator[tuple[str, str]]:
    try:
        if isinstance(declaration.schema, Mapping):
            PayloadValidator(declaration.schema)
    except ConfigurationError as error:
        yield "schema", str(error)
    try:
        if declaration.publisher is not None and _is_import_path(declaration.publisher):
            registry.resolve(declaration.publisher)
    except ConfigurationError as error:
        yield "publisher", str(error)


def _is_import_path(publisher: str) -> bool:
    return "." in publisher or ":" in publisher


def _at(declared: DeclaredEvent, field: str, message: str) -> Problem:
    line = declared.field_lines.get(field, declared.line)
    return Problem(f"event {declared.declaration.name!r}: {message}", declared.source, line)
