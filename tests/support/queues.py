"""What a PGMQ queue holds, and the names of the events in it."""

from __future__ import annotations

from typing import Any

from celery_tasker_events.testing.queue_content import messages

__all__ = ["messages", "names"]


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["event_name"] for event in events]
