"""How the command line shows a dead letter."""

from __future__ import annotations

import json
from typing import Any

from celery_tasker_events.consumer.printable import pretty, printable, printable_lines
from celery_tasker_events.durable.dead_letters import DeadLetter

__all__ = ["HOW", "as_json", "row", "shown"]

#: How the event of a letter can be published after all, by what the letter keeps.
HOW = {
    "message": "as it is",
    "outcome": "by the app",
    "text": "no",
}

_EXPLAINED = {
    "message": "as it is: the whole message is kept. celery-tasker-events dlq retry --dsn … will do",
    "outcome": "by the app: its publisher and its schema make the event again. celery -A <your app> domain-events dlq retry",
    "text": "no: neither a whole message nor the outcome of the step is kept",
}

#: Parts of a letter that are texts of their own, and what each is called.
_TEXTS = {"payload_text": "payload", "message_text": "message", "headers_text": "headers", "outcome_text": "outcome"}


def row(letter: DeadLetter) -> dict[str, str]:
    """Return a letter as a row of a table."""
    columns = {
        "NAMESPACE": letter.namespace,
        "MSG_ID": str(letter.message_id),
        "SINCE": letter.enqueued_at.isoformat(" ", "seconds"),
        "EVENT": letter.event_name or "-",
        "STAGE": letter.stage or "-",
        "RETRY": HOW.get(letter.kept, "no"),
        "ERROR": _beginning(letter.error) or "-",
    }
    return {heading: printable(text) for heading, text in columns.items()}


def _beginning(error: str) -> str:
    """The first line of an error, at most 200 characters of it."""
    line = error.partition("\n")[0]
    return line if len(line) <= 200 else f"{line[:199]}…"


def as_json(letter: DeadLetter, *, whole: bool = False) -> dict[str, Any]:
    """Return a letter as JSON data.

    Args:
        whole: With all that the letter holds, instead of the main fields.
    """
    main = {
        "namespace": letter.namespace,
        "message_id": letter.message_id,
        "enqueued_at": letter.enqueued_at.isoformat(),
        "event_name": letter.event_name,
        "event_id": letter.event_id,
        "failed_stage": letter.stage,
        "retry": HOW.get(letter.kept, "no"),
        "error": letter.error,
    }
    return {**main, "letter": letter.content} if whole else main


def shown(letter: DeadLetter) -> str:
    """Return all that a letter holds, as text."""
    content = letter.content
    lines = {
        "namespace": letter.namespace,
        "message id": letter.message_id,
        "since": letter.enqueued_at.isoformat(" ", "seconds"),
        "event": letter.event_name,
        "event id": letter.event_id,
        "step": content.get("step_uuid"),
        "workflow": content.get("task_uuid"),
        "correlation id": content.get("correlation_id"),
        "failed at": letter.stage,
        "error": letter.error,
        "retry": _EXPLAINED.get(letter.kept, _EXPLAINED["text"]),
        "size": f"{content['size_bytes']} bytes" if "size_bytes" in content else None,
    }
    if isinstance(declaration := content.get("declaration"), dict):
        lines["declared"] = ", ".join(f"{key} {value}" for key, value in declaration.items() if value is not None)
    width = max(map(len, lines)) + 2
    told = [f"{name:{width}}{printable_lines(str(value))}" for name, value in lines.items() if value not in (None, "")]
    texts = [f"\n{name}:\n{_pretty(content[key])}" for key, name in _TEXTS.items() if isinstance(content.get(key), str)]
    return "\n".join([*told, *texts])


def _pretty(text: str) -> str:
    try:
        return pretty(json.loads(text))
    except (ValueError, RecursionError):  # the beginning of a longer one, or more than Python reads
        return printable(text)
