"""An app for tests: publishes numbered events, in a worker or as a program of its own.

As a program: ``python outage.py COUNT [kill]`` publishes COUNT events and ends, or is killed once nothing is in memory any more.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

from celery import Celery

from celery_tasker_events import BasePublisher, DomainEvents, publishes_events

app = Celery("outage")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"]))
events = DomainEvents(app)


class SlowPublisher(BasePublisher):
    """Keeps the dispatcher busy, so that outcomes gather in the channel."""

    def before_publish(self, event: Any) -> None:
        time.sleep(0.05)


events.register_publisher(SlowPublisher)


@app.task(name="outage.number")
@publishes_events("number.noted", namespace="numbers")
def number(value: int) -> int:
    return value


@app.task(name="outage.slow", time_limit=2)
@publishes_events("slow.done", namespace="numbers", publisher="SlowPublisher")
@publishes_events("slow.failed", namespace="numbers", condition="permanent_failure")
def slow(value: int, *, hang: bool = False) -> int:
    for child in range(value):
        number_slowly.apply([child])
    if hang:
        time.sleep(60)
    return value


@app.task(name="outage.number_slowly")
@publishes_events("slow.noted", namespace="numbers", publisher="SlowPublisher")
def number_slowly(value: int) -> int:
    return value


def main(count: int, how: str) -> None:
    for value in range(count):
        events.publish("number.noted", value, namespace="numbers")
    if how == "kill":
        runtime = events._current_runtime()
        (writer,) = runtime._durable.writers
        while runtime._dispatcher.depth() or writer._waiting or not writer._is_spooling:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:] or [""])
