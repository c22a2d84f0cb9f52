"""``${VAR}`` and ``${VAR:-default}`` in a YAML document's strings, replaced once from the environment, within limits."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from celery_tasker_events.located import MAX_VALUES, LocatedDict, LocatedList

__all__ = ["ExpansionError", "ExpansionLimit", "TextTooLong", "expand_document", "expand_text"]

MAX_EXPANDED = 1024 * 1024

# "$${" stands for "${"; whatever looks different ("$", "${5}", "${a b}") is no reference and stays as it is.
_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(\}|:-)")

#: Keys and list indexes from the document's root to a value.
Path = tuple[Any, ...]


class ExpansionError(ValueError):
    """A string can't be expanded: a variable is not set, or a default holds another reference."""


class ExpansionLimit(ValueError):
    """The expanded document would be larger than is allowed.

    Attributes:
        line: 1-based line where that was found.
    """

    def __init__(self, line: int, message: str) -> None:
        self.line = line
        super().__init__(message)


class TextTooLong(ValueError):
    """The expanded text would be longer than is allowed."""


def expand_text(text: str, variables: Mapping[str, str], limit: int = MAX_EXPANDED) -> str:
    """Replace each reference by its variable's value, which is not looked into again.

    A default counts where the variable is not set or empty, as in a shell.

    Args:
        limit: Characters that may come before the end of the last reference.

    Raises:
        TextTooLong: as soon as the limit is passed.
        ExpansionError: if a variable without a default is not set, or a default holds another reference.
    """
    parts: list[str] = []
    position = length = 0
    while match := _REFERENCE.search(text, position):
        value, end = _value(text, match, variables)
        parts += (text[position : match.start()], value)
        length += match.start() - position + len(value)
        if length > limit:
            raise TextTooLong
        position = end
    return "".join((*parts, text[position:]))


def _value(text: str, match: re.Match[str], variables: Mapping[str, str]) -> tuple[str, int]:
    name = match[1]
    if name is None:
        return "${", match.end()
    if match[2] == "}":
        if name not in variables:
            raise ExpansionError(f"environment variable {name} is not set. Set it, or give a default: ${{{name}:-...}}")
        return variables[name], match.end()
    end = text.find("}", match.end())
    default = text[match.end() : end]
    if end < 0:
        return text[match.start() :], len(text)
    if "${" in default:
        raise ExpansionError(
            f"the default of ${{{name}:-...}} holds another reference: a default is plain text up to the next }}"
        )
    return variables.get(name) or default, end + 1


def expand_document(
    document: LocatedDict, variables: Mapping[str, str], is_needed: Callable[[Path], bool]
) -> tuple[LocatedDict, list[tuple[int, str]]]:
    """Expand every string value of a document; keys, and values of other types, stay as they are.

    Args:
        is_needed: Whether a value at this path must be expanded. Elsewhere a string that can't be is kept as it is written.

    Returns:
        A copy with the lines of the original, and what is wrong with needed values as (line, message).

    Raises:
        ExpansionLimit: if there are too many values, or too much text comes out of the references.
    """
    expander = _Expander(variables, is_needed)
    expanded: LocatedDict = expander.walk(document, (), document.line)
    return expanded, expander.problems


class _Expander:
    def __init__(self, variables: Mapping[str, str], is_needed: Callable[[Path], bool]) -> None:
        self._variables = variables
        self._is_needed = is_needed
        self._values = 0
        self._room = MAX_EXPANDED
        self.problems: list[tuple[int, str]] = []

    def walk(self, value: Any, path: Path, line: int) -> Any:
        # Overrides may put one value into many steps: this counts what the document really holds then.
        self._values += 1
        if self._values > MAX_VALUES:
            raise ExpansionLimit(line, f"more than {MAX_VALUES} values once overrides are applied")
        if isinstance(value, LocatedDict):
            mapping = LocatedDict((key, self.walk(item, (*path, key), value.line_of(key))) for key, item in value.items())
            mapping.line, mapping.lines = value.line, value.lines
            return mapping
        if isinstance(value, LocatedList):
            items = LocatedList(
                self.walk(item, (*path, index), at) for index, (item, at) in enumerate(zip(value, value.lines, strict=True))
            )
            items.lines = value.lines
            return items
        return self._text(value, path, line) if isinstance(value, str) and "${" in value else value

    def _text(self, text: str, path: Path, line: int) -> str:
        try:
            expanded = expand_text(text, self._variables, self._room)
        except ExpansionError as error:
            if self._is_needed(path):
                field = next((key for key in reversed(path) if isinstance(key, str)), "")
                self.problems.append((line, f"{field}: {error}"))
            return text
        except TextTooLong:
            raise ExpansionLimit(line, f"more than {MAX_EXPANDED} characters once variables are expanded") from None
        self._room -= len(expanded)
        if self._room < 0:
            raise ExpansionLimit(line, f"more than {MAX_EXPANDED} characters once variables are expanded")
        return expanded
