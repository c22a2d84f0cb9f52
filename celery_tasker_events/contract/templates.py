"""The declared events of task templates, as catalog entries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from celery_tasker_events.contract.entry import CatalogEntry
from celery_tasker_events.declaration import DeclaredEvent
from celery_tasker_events.template import TaskTemplate

__all__ = ["template_entries"]


def template_entries(
    template: TaskTemplate, tasks: Mapping[tuple[str, str], str] | None = None
) -> Iterator[tuple[CatalogEntry, DeclaredEvent]]:
    """Yield the events of one template, each with its declaration: those that are published by hand first.

    Args:
        tasks: The Celery task of each step, by workflow and step name, as far as they are known.
    """
    by_hand = [(None, declared) for declared in template.events]
    of_steps = [(step.name, declared) for step in template.steps for declared in step.events]
    for step, declared in [*by_hand, *of_steps]:
        entry = CatalogEntry.of(
            declared.declaration,
            declared.declaration.namespace or template.namespace,
            task=(tasks or {}).get((template.workflow, step)) if step else None,
            step=step,
            workflow=template.workflow,
            template_version=template.version,
        )
        yield entry, declared
