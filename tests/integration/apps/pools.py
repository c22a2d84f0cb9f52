"""An app for tests: orders with events of every mode, and reports of what this plugin has started in a process."""

from __future__ import annotations

import gc
import itertools
import json
import os
import stat
import sys
import threading
import time
from typing import Any

import psycopg
from celery import Celery
from celery.signals import worker_ready
from celery.worker.control import inspect_command

from celery_tasker_events import DomainEvent, DomainEvents, publishes_events

app = Celery("pools")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"]))
events = DomainEvents(app)

_numbers = itertools.count()
_publishing = threading.Lock()


@app.task(name="pools.note")
@publishes_events("order.noted", namespace="orders")
@publishes_events("order.told", namespace="orders", delivery_mode="broadcast")
@publishes_events("order.counted", namespace="orders", delivery_mode="fast")
def note(delay: float = 0.0) -> int:
    for _ in range(3):
        # Numbered in the order in which they are accepted, whatever the other threads do.
        with _publishing:
            events.publish("order.numbered", {"pid": os.getpid(), "number": next(_numbers)}, namespace="numbers")
    time.sleep(delay)
    return os.getpid()


@app.task(name="pools.too_long", time_limit=1)
@publishes_events("order.failed", namespace="orders", condition="permanent_failure")
def too_long() -> None:
    time.sleep(600)


@events.subscribe("order.*")
def hear(event: DomainEvent) -> None:
    print(f"heard {event.event_name} {event.metadata.step_uuid}", flush=True)


@app.task(name="pools.look")
def look(delay: float = 0.0) -> dict[str, Any]:
    report = _report()
    time.sleep(delay)
    return report


@inspect_command(name="look")
def look_at_main_process(state: Any) -> dict[str, Any]:
    return _report()


def _report() -> dict[str, Any]:
    sockets = [os.fstat(c.fileno()) for c in gc.get_objects() if isinstance(c, psycopg.Connection) and not c.closed]
    return {
        "pid": os.getpid(),
        "threads": sorted(t.name for t in threading.enumerate() if t.name.startswith("tasker-events")),
        "sockets": [status.st_ino for status in sockets if stat.S_ISSOCK(status.st_mode)],
        "imported": sorted(name for name in sys.modules.keys() - _IMPORTED_AT_START if name.startswith(_OURS)),
    }


_OURS = ("celery_tasker_events", "psycopg", "jsonschema", "asyncio", "sqlite3")
_IMPORTED_AT_START: set[str] = set()


def _note_imports(**_: Any) -> None:
    _IMPORTED_AT_START.update(sys.modules)


# What the main process has imported when it forks a child; for a pool that forks none, when the worker is ready.
os.register_at_fork(before=_note_imports)
worker_ready.connect(_note_imports)
