"""Which fields a task template may have, the orchestrator's included; finds those that no system knows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from celery_tasker_events.errors import did_you_mean
from celery_tasker_events.located import LocatedDict
from celery_tasker_events.overrides import ALL_STEPS

__all__ = ["ENVIRONMENT_FIELDS", "HANDLER_FIELDS", "STEP_FIELDS", "TEMPLATE_FIELDS", "unknown_fields"]

# The reference system's fields, and ours. Only few of them are looked into; the others belong to an orchestrator or to
# its tools, and are kept as they are.
TEMPLATE_FIELDS = frozenset(
    [
        "name",
        "namespace_name",
        "version",
        "description",
        "metadata",
        "task_handler",
        "system_dependencies",
        "domain_events",
        "input_schema",
        "steps",
        "environments",
        "lifecycle",
        "loaded_from",
        "custom_events",
        "default_dependent_system",
    ]
)
STEP_FIELDS = frozenset(
    [
        "name",
        "description",
        "handler",
        "type",
        "step_type",
        "system_dependency",
        "dependencies",
        "depends_on",
        "retry",
        "timeout_seconds",
        "publishes_events",
        "batch_config",
        "lifecycle",
        "result_schema",
        "metadata",
    ]
)
HANDLER_FIELDS = frozenset(["callable", "task", "initialization", "method", "resolver"])
ENVIRONMENT_FIELDS = frozenset(["task_handler", "steps"])

# A suggestion is looked for among so many steps at most: a hostile template must not make this slow.
MAX_SUGGESTIONS = 100


def unknown_fields(document: LocatedDict) -> Iterator[tuple[int, str]]:
    """Yield what the template has and nothing knows, as (line, message): fields, and overrides of steps that it lacks."""
    yield from _unknown(document, TEMPLATE_FIELDS, "a task template")
    yield from _unknown(document.get("task_handler"), HANDLER_FIELDS, "a handler")
    names: dict[str, None] = {}
    for step in _items(document.get("steps")):
        yield from _unknown(step, STEP_FIELDS, "a step")
        yield from _unknown(step.get("handler"), HANDLER_FIELDS, "a handler")
        names[str(step.get("name"))] = None
    environments = document.get("environments")
    for environment in environments.values() if isinstance(environments, LocatedDict) else ():
        yield from _unknown_in_environment(environment, names)


def _unknown_in_environment(environment: Any, names: dict[str, None]) -> Iterator[tuple[int, str]]:
    yield from _unknown(environment, ENVIRONMENT_FIELDS, "an environment")
    if not isinstance(environment, LocatedDict):
        return
    yield from _unknown(environment.get("task_handler"), HANDLER_FIELDS, "a handler")
    for override in _items(environment.get("steps")):
        yield from _unknown(override, STEP_FIELDS, "a step")
        yield from _unknown(override.get("handler"), HANDLER_FIELDS, "a handler")
        name = override.get("name")
        if isinstance(name, str) and name != ALL_STEPS and name not in names:
            suggestion = did_you_mean(name, islice(names, MAX_SUGGESTIONS))
            yield override.line_of("name"), f"override for step {name!r}, which the template does not have.{suggestion}"


def _unknown(owner: Any, known: frozenset[str], what: str) -> Iterator[tuple[int, str]]:
    if isinstance(owner, LocatedDict):
        for key in owner:
            if key not in known:
                yield owner.line_of(key), f"unknown field {key!r} in {what}.{did_you_mean(str(key), known)}"


def _items(value: Any) -> Iterator[LocatedDict]:
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, LocatedDict))
