"""Two in-process subscribers, as plain functions: one logs, one counts. They run in the worker's processes."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from celery_tasker_events import DomainEvent
from example_project.app import events, required

logger = logging.getLogger(__name__)

COUNTS_FILE = Path(required("SHOP_COUNTS_FILE"))


@events.subscribe("payment.*")
def log_payment(event: DomainEvent) -> None:
    """Write a line into the worker's log."""
    error = event.execution_result.error
    logger.info("%s: workflow %s%s", event.event_name, event.metadata.task_uuid, f": {error.message}" if error else "")


@events.subscribe("*")
def count_event(event: DomainEvent) -> None:
    """Count the event.

    Each process of the worker has its own memory, so what a process counts is noted in a file that all share: short
    lines that are appended whole do not mix. A real shop would increment a counter of its metrics system here.
    """
    line = {
        "event_name": event.event_name,
        "task_uuid": event.metadata.task_uuid,
        "fired_at": event.metadata.fired_at.isoformat(),
        "process": os.getpid(),
    }
    with COUNTS_FILE.open("a") as file:
        file.write(json.dumps(line) + "\n")
