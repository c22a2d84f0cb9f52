"""What the ``environments`` section of a task template changes in it, for the environment that a process runs in."""

from __future__ import annotations

from typing import Any

from celery_tasker_events.located import MAX_VALUES, LocatedDict, LocatedList

__all__ = ["ALL_STEPS", "OverrideError", "apply", "merge"]

#: The name by which an override is for every step.
ALL_STEPS = "ALL"


class OverrideError(ValueError):
    """An override is not what it must be.

    Attributes:
        line: 1-based line.
    """

    def __init__(self, line: int, message: str) -> None:
        self.line = line
        super().__init__(message)


def apply(document: LocatedDict, environment: str) -> LocatedDict:
    """Return the template as it is in that environment; one that it has no overrides for changes nothing.

    Steps are matched by name as it is written, before variables are expanded. Neither argument is changed.

    Raises:
        OverrideError: if the environment's section is not shaped as it must be, or makes the template too large.
    """
    environments = _mapping(document.get("environments"), document.line_of("environments"), "environments")
    section = _mapping(environments.get(environment), environments.line_of(environment), f"environment {environment!r}")
    result = LocatedDict(document)
    result.line, result.lines = document.line, dict(document.lines)
    merging = _Merging()
    if (handler := section.get("task_handler")) is not None:
        override = _mapping(handler, section.line_of("task_handler"), "task_handler")
        own = result.get("task_handler")
        if isinstance(own, LocatedDict):
            result["task_handler"] = merging.merge(own, override)
        else:
            result["task_handler"], result.lines["task_handler"] = override, section.line_of("task_handler")
    overrides = section.get("steps")
    if overrides is not None and not isinstance(overrides, LocatedList):
        raise OverrideError(section.line_of("steps"), f"steps of an environment must be a list, not {overrides!r}")
    if overrides and isinstance(result.get("steps"), LocatedList):
        result["steps"] = _override_steps(result["steps"], overrides, merging)
    return result


def merge(base: LocatedDict, override: LocatedDict) -> LocatedDict:
    """Return the base with the override's values: mappings are merged, anything else is replaced, null changes nothing.

    Every key has the line where its value was written.

    Raises:
        OverrideError: if the result would be too large.
    """
    return _Merging().merge(base, override)


def _override_steps(steps: LocatedList, overrides: LocatedList, merging: _Merging) -> LocatedList:
    result = LocatedList(steps)
    result.lines = steps.lines
    indexes: dict[Any, list[int]] = {ALL_STEPS: []}
    for index, step in enumerate(steps):
        if isinstance(step, LocatedDict):
            indexes[ALL_STEPS].append(index)
            if isinstance(name := step.get("name"), str) and name != ALL_STEPS:
                indexes.setdefault(name, []).append(index)
    for override, line in zip(overrides, overrides.lines, strict=True):
        if not isinstance(override, LocatedDict) or not isinstance(override.get("name"), str):
            raise OverrideError(line, f"an override is a mapping with the 'name' of a step, or {ALL_STEPS}, not {override!r}")
        changes = LocatedDict(override)
        changes.line, changes.lines = override.line, override.lines
        del changes["name"]
        for index in indexes.get(override["name"], ()):
            result[index] = merging.merge(result[index], changes)
    return result


class _Merging:
    def __init__(self) -> None:
        self._entries = 0

    def merge(self, base: LocatedDict, override: LocatedDict) -> LocatedDict:
        # One override may be for every step, so this work is more than the document's own size.
        self._entries += len(base) + len(override)
        if self._entries > MAX_VALUES:
            raise OverrideError(override.line, f"more than {MAX_VALUES} values once overrides are applied")
        result = LocatedDict(base)
        result.line, result.lines = base.line, dict(base.lines)
        for key, value in override.items():
            if value is None:
                continue
            own = base.get(key)
            if isinstance(own, LocatedDict) and isinstance(value, LocatedDict):
                result[key] = self.merge(own, value)
            else:
                result[key], result.lines[key] = value, override.line_of(key)
        return result


def _mapping(value: Any, line: int, what: str) -> LocatedDict:
    if value is None:
        empty = LocatedDict()
        empty.line, empty.lines = line, {}
        return empty
    if not isinstance(value, LocatedDict):
        raise OverrideError(line, f"{what} must be a mapping, not {value!r}")
    return value
