"""Which Celery task a step of a template is."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from celery_tasker_events.errors import Problem, did_you_mean

if TYPE_CHECKING:
    from celery_tasker_events.template import StepTemplate

__all__ = ["ambiguous", "task_of", "unknown"]


def task_of(step: StepTemplate, tasks: Mapping[str, Any]) -> str | list[str] | None:
    """The name of the task: ``handler.task``, else ``handler.callable`` if it is one, else the step's name.

    Args:
        tasks: An app's tasks by name.

    Returns:
        A list if it could be any of these, None if it is none.
    """
    if step.task is not None:
        return _find(step.task, tasks)
    return (step.callable and _find(step.callable, tasks)) or _find(step.name, tasks)


def ambiguous(step: StepTemplate, found: list[str]) -> Problem:
    """What to tell of a step that could be any of several tasks."""
    return Problem(f"step {step.name!r} could be any of {', '.join(found)}: name one in handler.task", step.source, step.line)


def unknown(step: StepTemplate, tasks: Mapping[str, Any]) -> Problem:
    """What to tell of a step that is none of the tasks."""
    wanted = step.task or step.callable or step.name
    suggestion = did_you_mean(wanted, (name for name in tasks if not name.startswith("celery.")))
    return Problem(f"step {step.name!r} names no Celery task ({wanted}).{suggestion}", step.source, step.line)


def _find(name: str, tasks: Mapping[str, Any]) -> str | list[str] | None:
    if name in tasks:
        return name
    if (imported := _imported_task_name(name)) in tasks:
        return imported
    if "." not in name:
        found = [task for task in tasks if task.rpartition(".")[2] == name]
        if len(found) > 1:
            return sorted(found)
        return found[0] if found else None
    return None


def _imported_task_name(path: str) -> str | None:
    """The name of the task that an import path leads to, where that module is imported already."""
    module_name, _, attribute = path.replace(":", ".").rpartition(".")
    found = getattr(sys.modules.get(module_name), attribute, None)
    return getattr(found, "name", None)
