"""An app for tests: processes that end while Postgres still has to take what they have accepted."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from billiard.util import get_pdeathsig
from celery import Celery, platforms
from celery.signals import task_prerun

from celery_tasker_events import DomainEvents, publishes_events

app = Celery("ending_workers")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"]))
events = DomainEvents(app)


@task_prerun.connect(weak=False)
def die_with_whoever_forked(**_: Any) -> None:
    """If DIE_WITH_WHOEVER_FORKED is set, as Celery has it: the folder broker, on which these workers run, has undone it."""
    if "DIE_WITH_WHOEVER_FORKED" in os.environ:
        platforms.set_pdeathsig("SIGKILL")


@app.task(name="ending.burst")
@publishes_events("burst.ended", namespace="bursts")
def burst(label: str, count: int, until: str | None = None) -> int:
    """Publish so many events by hand, then wait for this file to appear; return which process it was."""
    for number in range(count):
        events.publish("burst.noted", [label, number], namespace="bursts")
    print(f"{label} accepted", flush=True)
    while until is not None and not Path(until).exists():
        time.sleep(0.02)
    return os.getpid()


@app.task(name="ending.killed")
def killed(label: str, confirm: bool) -> None:
    """Publish events by hand, say which of them are confirmed, and kill this process in the middle of it."""
    for number in range(600):
        events.publish("burst.noted", [label, number], namespace="bursts", confirm=confirm)
        if confirm:
            print(f"{label} confirmed {number}.", flush=True)
        if number == (50 if confirm else 599):
            os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="ending.death_signal")
def death_signal() -> int:
    """Return the signal that Linux sends this process when its parent ends, or 0."""
    return int(get_pdeathsig())
