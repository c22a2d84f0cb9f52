"""YAML task templates: which steps a workflow has, and which events each of them declares."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celery_tasker_events import located
from celery_tasker_events.declaration import DeclarationError, EventDeclaration, namespace_problem
from celery_tasker_events.errors import ConfigurationError, Problem, did_you_mean
from celery_tasker_events.located import LocatedDict

__all__ = ["DeclaredEvent", "StepTemplate", "TaskTemplate", "load_templates"]

# The fields of the reference system's task templates. Only those that this package acts on are looked into; the
# others belong to an orchestrator and are kept as they are.
TEMPLATE_FIELDS = frozenset(
    [
        "name",
        "namespace_name",
        "version",
        "description",
        "domain_events",
        "metadata",
        "task_handler",
        "system_dependencies",
        "input_schema",
        "steps",
        "environments",
        "lifecycle",
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
        "system_dependency",
        "dependencies",
        "retry",
        "timeout_seconds",
        "publishes_events",
        "batch_config",
        "metadata",
    ]
)
HANDLER_FIELDS = frozenset(["callable", "task", "initialization", "method", "resolver"])


@dataclass(frozen=True)
class DeclaredEvent:
    """A declaration, where it comes from, and where in that file it and its fields stand (line None: not a file)."""

    declaration: EventDeclaration
    source: str
    line: int | None
    field_lines: Mapping[str, int]


@dataclass(frozen=True)
class StepTemplate:
    """One step.

    Attributes:
        task: ``handler.task``, or None.
        callable: ``handler.callable``, or None.
        definition: The whole mapping, orchestrator's fields included.
    """

    name: str
    task: str | None
    callable: str | None
    events: Sequence[DeclaredEvent]
    source: str
    line: int
    definition: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class TaskTemplate:
    """One workflow. ``events`` are its task-level ``domain_events``, which are published by hand."""

    name: str
    namespace: str
    version: str
    description: str
    steps: Sequence[StepTemplate]
    events: Sequence[DeclaredEvent]
    source: str
    definition: Mapping[str, Any] = field(repr=False)


def load_templates(patterns: Iterable[str]) -> tuple[list[TaskTemplate], list[Problem]]:
    """Load every file that a glob pattern matches (``**`` reaches into folders), once if several match it.

    Returns:
        The templates that are right, and all problems of those that are not.
    """
    templates: list[TaskTemplate] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    for pattern in patterns:
        paths = sorted(path for path in glob.glob(pattern, recursive=True) if Path(path).is_file())
        if not paths:
            problems.append(Problem(f"no task template matches this pattern (looked from {Path.cwd()})", pattern))
        for path in paths:
            if path in seen:
                continue
            seen.add(path)
            try:
                templates.append(_Reader(path).read())
            except ConfigurationError as error:
                problems.extend(error.problems)
    return templates, problems


class _Reader:
    """Reads one file, and collects all that is wrong with it before it gives up."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._problems: list[Problem] = []

    def read(self) -> TaskTemplate:
        document = located.load(Path(self._path))
        if not isinstance(document, LocatedDict):
            self._add(1, "a task template is a mapping with 'name', 'namespace_name' and 'steps'")
            raise ConfigurationError(self._problems)
        self._unknown_fields(document, TEMPLATE_FIELDS, "a task template")
        name = self._string(document, "name", required=True)
        namespace = self._string(document, "namespace_name", required=True)
        if namespace is not None and (problem := namespace_problem(namespace)):
            self._add(document.line_of("namespace_name"), problem)
        template = TaskTemplate(
            name=name or "",
            namespace=namespace or "",
            version=str(document.get("version") or ""),
            description=self._string(document, "description") or "",
            steps=self._steps(document),
            events=self._events(document, "domain_events"),
            source=self._path,
            definition=document,
        )
        if self._problems:
            raise ConfigurationError(self._problems)
        return template

    def _steps(self, document: LocatedDict) -> list[StepTemplate]:
        steps = [step for item, line in self._items(document, "steps") if (step := self._step(item, line))]
        seen: dict[str, int] = {}
        for step in steps:
            if step.name in seen:
                self._add(step.line, f"step {step.name!r} is defined twice, first in line {seen[step.name]}")
            seen.setdefault(step.name, step.line)
        return steps

    def _step(self, item: Any, line: int) -> StepTemplate | None:
        if not isinstance(item, LocatedDict):
            self._add(line, f"a step is a mapping with a 'name', not {item!r}")
            return None
        self._unknown_fields(item, STEP_FIELDS, "a step")
        handler = LocatedDict() if item.get("handler") is None else item["handler"]
        if not isinstance(handler, LocatedDict):
            self._add(item.line_of("handler"), f"handler must be a mapping with 'callable' or 'task', not {handler!r}")
            return None
        self._unknown_fields(handler, HANDLER_FIELDS, "a handler")
        name = self._string(item, "name", required=True)
        return StepTemplate(
            name=name or "",
            task=self._string(handler, "task"),
            callable=self._string(handler, "callable"),
            events=self._events(item, "publishes_events"),
            source=self._path,
            line=item.line_of("name"),
            definition=item,
        )

    def _events(self, owner: LocatedDict, key: str) -> list[DeclaredEvent]:
        events = []
        for item, line in self._items(owner, key):
            try:
                declaration = EventDeclaration.from_mapping(item)
            except DeclarationError as error:
                for name, message in error.by_field:
                    self._add(item.line_of(name) if isinstance(item, LocatedDict) else line, message)
            else:
                events.append(DeclaredEvent(declaration, self._path, line, item.lines))
        return events

    def _items(self, owner: LocatedDict, key: str) -> Iterable[tuple[Any, int]]:
        value = owner.get(key)
        if value is None:
            return []
        if not isinstance(value, located.LocatedList):
            self._add(owner.line_of(key), f"{key} must be a list, not {value!r}")
            return []
        return zip(value, value.lines, strict=True)

    def _string(self, owner: LocatedDict, key: str, *, required: bool = False) -> str | None:
        value = owner.get(key)
        if isinstance(value, str) and value:
            return value
        if value is not None:
            self._add(owner.line_of(key), f"{key} must be a string, not {value!r}")
        elif required:
            self._add(owner.line, f"{key!r} is missing")
        return None

    def _unknown_fields(self, owner: LocatedDict, known: frozenset[str], what: str) -> None:
        for key in owner:
            if key not in known:
                self._add(owner.line_of(key), f"unknown field {key!r} in {what}.{did_you_mean(str(key), known)}")

    def _add(self, line: int, message: str) -> None:
        self._problems.append(Problem(message, self._path, line))
