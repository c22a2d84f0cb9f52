"""Compares what a test expects with what was published, and words the difference, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from celery_tasker_events.errors import SchemaViolation
from celery_tasker_events.testing.recorder import DeadLetter, Recorded

__all__ = ["Difference", "differences", "list_of", "table_of", "told_letter"]

#: Characters of a payload in a list.
_WIDTH = 200


class Difference(NamedTuple):
    """One field that is not as expected, with both values as text."""

    path: str
    expected: str
    got: str


def differences(expected: Any, got: Any, path: str) -> list[Difference]:
    """Return the fields that differ. A mapping names those to compare, at every depth; others may be there."""
    if not isinstance(expected, Mapping):
        return [] if expected == got else [Difference(path, _text(expected), _text(got))]
    if not isinstance(got, Mapping):
        return [Difference(path, _text(expected), _text(got))]
    found = []
    for key, value in expected.items():
        place = f"{path}.{key}"
        if key in got:
            found += differences(value, got[key], place)
        else:
            found.append(Difference(place, _text(value), "(no such field)"))
    return found


def table_of(found: Iterable[Difference]) -> list[str]:
    """Return differences as lines in columns."""
    rows = [("field", "expected", "got"), *found]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [f"    {path:<{widths[0]}}  {expected:<{widths[1]}}  {got}" for path, expected, got in rows]


def list_of(recorded: Iterable[Recorded]) -> list[str]:
    """Return a line for each event."""
    return [
        f"  {number}. {item.event.event_name} ({item.delivery_mode}, step {item.event.metadata.step_name})"
        f" {_short(_text(item.event.payload))}"
        for number, item in enumerate(recorded, 1)
    ]


def told_letter(letter: DeadLetter) -> list[str]:
    """Return lines that say why an event was not published."""
    parked = "lost" if letter.delivery_mode in (None, "fast") else "a dead letter"
    mode = "by hand" if letter.delivery_mode is None else letter.delivery_mode
    error = letter.error
    lines = [
        f"  {letter.event_name} ({mode}) would be {parked} in production, at stage {letter.stage!r}:",
        f"    {type(error).__name__}: {error}",
    ]
    if isinstance(error, SchemaViolation) and error.rule is not None:
        path = ".".join(map(str, ("payload", *error.path)))
        keyword, value = error.rule
        lines += table_of([Difference(path, f"{keyword}: {_text(value)}", _text(error.got))])
    if letter.payload_text is not None:
        lines.append(f"    payload: {_short(letter.payload_text)}")
    return lines


def _text(value: Any) -> str:
    return _short(repr(value))


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
