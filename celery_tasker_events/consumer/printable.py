"""Makes what stands in messages safe to show: a terminal obeys control characters, whoever sent them."""

from __future__ import annotations

import datetime
import json
from typing import Any

from celery_tasker_events.consumer.entry import Entry

__all__ = ["entry_as_json", "event_name_of", "pretty", "printable", "printable_lines", "shown", "utc"]

NONE = "-"


def printable(text: str) -> str:
    """Return the text on one line, with an escape for whatever is no visible character, such as ``\\x1b``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """Return the text on as many lines as it has, each as of :func:`printable`."""
    return "\n".join(map(printable, text.split("\n")))


def shown(value: object) -> str:
    """Return a value of a message for a table; a dash for what is missing."""
    return NONE if value is None else printable(str(value))


def event_name_of(entry: Entry) -> str:
    """Return the event's name for a table, and whether it is a replay."""
    return shown(entry.outline.event_name) + ("" if entry.outline.replay_id is None else " (replay)")


def utc(moment: datetime.datetime | None) -> str:
    """Return a moment in UTC, RFC 3339 with milliseconds; a dash for none."""
    if moment is None:
        return NONE
    in_utc = moment.astimezone(datetime.timezone.utc)
    return in_utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def pretty(value: Any) -> str:
    """Return JSON data as indented lines that are safe to show."""
    try:
        return printable_lines(json.dumps(value, indent=2, ensure_ascii=False))
    except RecursionError:
        return "(nested too deeply to be shown)"


def entry_as_json(entry: Entry, **more: object) -> str:
    """Return an entry as one line of JSON in ASCII, in which no control character stands for itself."""
    data = {**entry.as_json(), **more}
    try:
        return json.dumps(data)
    except RecursionError:
        return json.dumps({**data, "message": None, "headers": None, "problem": "nested too deeply to be shown"})
