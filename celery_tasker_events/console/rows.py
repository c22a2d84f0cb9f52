"""How the console shows an entry in a list: texts that are safe to show, and where they lead."""

from __future__ import annotations

import datetime
import json
from typing import Any
from urllib.parse import urlencode

from celery_tasker_events.consumer.entry import DEAD_LETTER, Entry
from celery_tasker_events.consumer.printable import event_name_of, printable, shown, utc

__all__ = ["message_url", "order_of", "row_of", "tone_of", "workflow_url"]

#: Characters of a payload or an error in a list; the message's own page has all.
GIST_LENGTH = 160

#: How long before an event its workflow is looked for.
BEFORE = datetime.timedelta(days=1)

_TONES = {"completed": "good", "failed": "bad", "retrying": "warn", "published": "info", DEAD_LETTER: "bad"}


def tone_of(outcome: str | None) -> str:
    """Return which colour an outcome has; the word stands beside it."""
    return _TONES.get(outcome or "", "none")


def row_of(entry: Entry) -> dict[str, str]:
    """Return what a line of a list shows; also what a stream sends, so that page and stream can't differ."""
    outline = entry.outline
    moment = utc(entry.moment)
    return {
        "key": f"{entry.queue}:{entry.msg_id}",
        "order": " ".join(order_of(entry)),
        "moment": moment,
        "time": f"{moment[5:10]} {moment[11:-1]}",
        "event": event_name_of(entry),
        "namespace": shown(outline.namespace or entry.queue),
        "outcome": shown(outline.outcome) if entry.problem is None else "no event",
        "tone": tone_of(outline.outcome),
        "step": shown(outline.step_name),
        "correlation_id": shown(outline.correlation_id),
        "gist": _gist(entry),
        "message_url": message_url(entry),
        "workflow_url": workflow_url(entry),
    }


def order_of(entry: Entry) -> tuple[str, str, str]:
    """Return what a list is sorted by; equal texts for equal entries."""
    return entry.enqueued_at.isoformat(timespec="microseconds"), entry.queue, f"{entry.msg_id:019}"


def message_url(entry: Entry) -> str:
    """Where the whole message is shown."""
    return f"/message?{urlencode({'queue': entry.queue, 'id': entry.msg_id})}"


def workflow_url(entry: Entry) -> str:
    """Where its workflow is shown; empty if it names none."""
    if not entry.outline.correlation_id:
        return ""
    since = utc(_before(entry))
    # As text a correlation id may hold what UTF-8 has no form for.
    return f"/workflow?{urlencode({'id': entry.outline.correlation_id, 'since': since}, errors='replace')}"


def _before(entry: Entry) -> datetime.datetime:
    try:
        return min(entry.started_at, entry.enqueued_at) - BEFORE
    except OverflowError:
        return entry.enqueued_at


def _gist(entry: Entry) -> str:
    text = _text_of(entry)
    return text if len(text) <= GIST_LENGTH else f"{text[: GIST_LENGTH - 1]}…"


def _text_of(entry: Entry) -> str:
    outline = entry.outline
    if entry.problem is not None:
        return printable(entry.problem)
    if outline.error is not None or outline.error_type is not None:
        return f"{shown(outline.error_type)}: {shown(outline.error)}"
    return printable(_json(outline.payload))


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "(nested too deeply to be shown)"
