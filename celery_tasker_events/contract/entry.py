"""CatalogEntry: one declared event of one step, as JSON data, wherever it comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery_tasker_events import values
from celery_tasker_events.declaration import Condition, DeliveryMode, EventDeclaration, event_name_problem, namespace_problem
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.event import queue_name

__all__ = ["CatalogEntry"]


@dataclass(frozen=True)
class CatalogEntry:
    """One declared event.

    Attributes:
        condition: None for an event that is published by hand.
        task: Name of the Celery task; None by hand, or where no app was asked.
        step: The step's name; None by hand.
        template: ``namespace/name`` of the template that declares it; None for one that is declared in Python.
        template_version: The template's version.
        publisher: None: the generic one.
        schema: JSON Schema of its payload, or None.
    """

    event: str
    version: str
    namespace: str
    condition: str | None
    delivery_mode: str
    task: str | None = None
    step: str | None = None
    template: str | None = None
    template_version: str | None = None
    publisher: str | None = None
    description: str = ""
    schema: Mapping[str, Any] | None = None

    @property
    def is_durable(self) -> bool:
        """Whether it reaches the queue of its namespace."""
        return DeliveryMode(self.delivery_mode).reaches_pgmq

    @property
    def queue(self) -> str | None:
        return queue_name(self.namespace) if self.is_durable else None

    @property
    def when(self) -> str:
        """On which outcomes of its step it is published, in a word."""
        return self.condition or "by hand"

    @classmethod
    def of(
        cls,
        declaration: EventDeclaration,
        namespace: str,
        *,
        task: str | None,
        step: str | None,
        workflow: str | None,
        template_version: str | None,
    ) -> CatalogEntry:
        """Describe a declaration. An event without a step is published by hand, whatever its condition."""
        schema = declaration.schema
        return cls(
            event=declaration.name,
            version=declaration.version,
            namespace=namespace,
            condition=None if step is None else declaration.condition.value,
            delivery_mode=declaration.delivery_mode.value,
            task=task,
            step=step,
            template=workflow,
            template_version=template_version or None,
            publisher=declaration.publisher,
            description=declaration.description,
            # A schema from YAML knows its lines, and may hold a date: here it is JSON data and no more.
            schema=values.decode(values.encode(schema)) if isinstance(schema, Mapping) else None,
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as an element of the JSON catalog."""
        return {
            "task": self.task,
            "step": self.step,
            "template": self.template,
            "event": self.event,
            "condition": self.condition,
            "delivery_mode": self.delivery_mode,
            "namespace": self.namespace,
            "queue": self.queue,
            "publisher": self.publisher,
            "version": self.version,
            "template_version": self.template_version,
            "description": self.description,
            "schema": self.schema,
        }

    @classmethod
    def from_json(cls, element: Any) -> CatalogEntry:
        """Read what :meth:`as_json` made; other keys are left out.

        Raises:
            ConfigurationError: if it is something else.
        """
        if not isinstance(element, Mapping):
            raise ConfigurationError(f"an event of a catalog is an object, not {element!r}")
        fields: dict[str, Any] = {field.name: element.get(field.name) for field in dataclasses.fields(cls)}
        fields["description"] = fields["description"] or ""
        problems = [event_name_problem(fields["event"]), namespace_problem(fields["namespace"])]
        if fields["delivery_mode"] not in list(DeliveryMode):
            problems.append(f"unknown delivery_mode {fields['delivery_mode']!r}")
        if fields["condition"] not in [None, *Condition]:
            problems.append(f"unknown condition {fields['condition']!r}")
        if not isinstance(fields["schema"], Mapping | None):
            problems.append(f"schema must be an object, not {fields['schema']!r}")
        if not isinstance(fields["version"], str):
            problems.append(f"version must be a string, not {fields['version']!r}")
        for name in ("task", "step", "template", "template_version", "publisher", "description"):
            if not isinstance(fields[name], str | None):
                problems.append(f"{name} must be a string or null, not {fields[name]!r}")
        if found := [problem for problem in problems if problem]:
            raise ConfigurationError(f"event {fields['event']!r} of the catalog: {'; '.join(found)}")
        return cls(**fields)

    def order(self) -> tuple[str, ...]:
        """What entries are sorted by."""
        parts = (self.namespace, self.event, self.version, self.template, self.step, self.task, self.condition)
        return tuple(part or "" for part in parts)
