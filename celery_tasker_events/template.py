"""YAML task templates: which steps a workflow has, and which events each of them declares."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from celery_tasker_events import located, overrides
from celery_tasker_events.declaration import DeclarationError, DeclaredEvent, EventDeclaration, namespace_problem
from celery_tasker_events.errors import ConfigurationError, Problem
from celery_tasker_events.expansion import ExpansionLimit, expand_document
from celery_tasker_events.located import LocatedDict
from celery_tasker_events.overrides import OverrideError
from celery_tasker_events.template_fields import unknown_fields

__all__ = ["LoadedTemplates", "StepTemplate", "TaskTemplate", "load_templates"]

# So many problems of one file are told, and so many warnings.
MAX_TOLD = 100


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
    """One workflow, as it is in the environment that it was loaded for.

    Attributes:
        events: Its task-level ``domain_events``, which are published by hand.
        definition: The whole mapping, orchestrator's fields included.
    """

    name: str
    namespace: str
    version: str
    description: str
    steps: Sequence[StepTemplate]
    events: Sequence[DeclaredEvent]
    source: str
    definition: Mapping[str, Any] = field(repr=False)

    @property
    def workflow(self) -> str:
        """The name that tells it from other templates: ``namespace/name``."""
        return f"{self.namespace}/{self.name}"


class LoadedTemplates(NamedTuple):
    """What came out of the files.

    Attributes:
        templates: Those that are right.
        problems: All that is wrong with the others.
        warnings: What nothing knows in any of them, such as a misspelt field: no reason to refuse a template.
    """

    templates: list[TaskTemplate]
    problems: list[Problem]
    warnings: list[Problem]


def load_templates(
    patterns: Iterable[str], environment: str | None = None, variables: Mapping[str, str] | None = None
) -> LoadedTemplates:
    """Load every file that a glob pattern matches (``**`` reaches into folders), once if several match it.

    Args:
        environment: Which ``environments`` overrides count; None: none.
        variables: What ``${VAR}`` is replaced from; the process' environment by default.
    """
    loaded = LoadedTemplates([], [], [])
    seen: set[str] = set()
    sources: dict[str, str] = {}
    for pattern in patterns:
        paths = sorted(path for path in glob.glob(pattern, recursive=True) if Path(path).is_file())
        if not paths:
            loaded.problems.append(Problem(f"no task template matches this pattern (looked from {Path.cwd()})", pattern))
        for path in paths:
            if path in seen:
                continue
            seen.add(path)
            reader = _Reader(path, environment, os.environ if variables is None else variables)
            try:
                template = reader.read()
            except ConfigurationError as error:
                loaded.problems.extend(error.problems)
            else:
                if (first := sources.setdefault(template.workflow, path)) == path:
                    loaded.templates.append(template)
                else:
                    message = f"template {template.workflow!r} is loaded already from {first}: keep one of its versions"
                    loaded.problems.append(Problem(message, path))
            loaded.warnings.extend(reader.warnings)
    return loaded


def _is_acted_on(path: tuple[Any, ...]) -> bool:
    """Whether this package acts on the value at this path of a template, so that its variables must be set."""
    match path:
        case (("name" | "namespace_name"),) | ("domain_events", *_):
            return True
        case ("steps", _, "name") | ("steps", _, "publishes_events", *_) | ("steps", _, "handler", "task" | "callable"):
            return True
    return False


class _Reader:
    """Reads one file, and collects all that is wrong with it before it gives up."""

    def __init__(self, path: str, environment: str | None, variables: Mapping[str, str]) -> None:
        self._path = path
        self._environment = environment
        self._variables = variables
        self._problems: list[Problem] = []
        self._lines_not_expanded: set[int] = set()
        self.warnings: list[Problem] = []

    def read(self) -> TaskTemplate:
        document = self._document()
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

    def _document(self) -> LocatedDict:
        """The file with its environment's overrides applied and its variables expanded."""
        document = located.load(Path(self._path))
        if not isinstance(document, LocatedDict):
            raise self._refusal(1, "a task template is a mapping with 'name', 'namespace_name' and 'steps'")
        told = list(islice(unknown_fields(document), MAX_TOLD + 1))
        self.warnings = [Problem(message, self._path, line) for line, message in told[:MAX_TOLD]]
        if len(told) > MAX_TOLD:
            self.warnings.append(Problem(f"more than {MAX_TOLD} warnings: the others are not told", self._path))
        try:
            if self._environment is not None:
                document = overrides.apply(document, self._environment)
            document, not_expanded = expand_document(document, self._variables, _is_acted_on)
        except (OverrideError, ExpansionLimit) as error:
            raise self._refusal(error.line, str(error)) from error
        for line, message in not_expanded:
            self._add(line, message)
        # What such a line holds is wrong for this reason only: nothing more is told about it.
        self._lines_not_expanded = {line for line, _ in not_expanded}
        return document

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
        handler = LocatedDict() if item.get("handler") is None else item["handler"]
        if not isinstance(handler, LocatedDict):
            self._add(item.line_of("handler"), f"handler must be a mapping with 'callable' or 'task', not {handler!r}")
            return None
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

    def _add(self, line: int, message: str) -> None:
        if line in self._lines_not_expanded:
            return
        self._problems.append(Problem(message, self._path, line))
        if len(self._problems) == MAX_TOLD:
            raise self._refusal(None, f"more problems than {MAX_TOLD} may be here: the others are not told")

    def _refusal(self, line: int | None, message: str) -> ConfigurationError:
        return ConfigurationError([*self._problems, Problem(message, self._path, line)])
