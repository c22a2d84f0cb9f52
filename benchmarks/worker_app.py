"""The app of the workers that are measured: a no-op task, told of in the way that the environment says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery, signals

from benchmarks.tasks import LINGER_MS, NAMESPACE, QUEUE, event_of, no_op

__all__ = ["app"]

app = Celery("bench")
app.conf.update(json.loads(os.environ["BENCH_SETTINGS"]))

heard = 0


@signals.worker_ready.connect  # type: ignore[untyped-decorator]  # celery has no type hints
def tell_ready(**_: Any) -> None:
    Path(os.environ["BENCH_READY"]).touch()


def subscriber(event: object) -> None:
    global heard
    heard += 1


def _plugin() -> Callable[[], Any]:
    # Imported here, as in the next function: a worker must not pay for what another one needs.
    from celery_tasker_events import DomainEvents, publishes_events

    DomainEvents(app).subscribe("payment.*")(subscriber)
    return publishes_events("payment.processed", namespace=NAMESPACE, delivery_mode="broadcast")(no_op)


def _handler() -> Callable[[], Any]:
    import psycopg
    from psycopg.types.json import Jsonb
    from psycopg_pool import ConnectionPool

    pools: list[ConnectionPool[psycopg.Connection]] = []

    def tell(result: Any = None, **_: Any) -> None:
        event = event_of(result)
        subscriber(event)
        if not pools:  # not before the fork: a child needs connections of its own
            pools.append(ConnectionPool(app.conf.tasker_events_dsn, min_size=1, max_size=4, open=True))
        with pools[0].connection() as connection:
            connection.execute("select pgmq.send(%s, %s)", [QUEUE, Jsonb(event)])

    signals.task_success.connect(tell, weak=False)
    return no_op


def _none() -> Callable[[], Any]:
    return no_op


def _lingering() -> Callable[[], Any]:
    app.conf.tasker_events_linger_ms = LINGER_MS
    return _plugin()


_CONTESTANTS = {"plugin": _plugin, "lingering": _lingering, "handler": _handler, "none": _none}
app.task(_CONTESTANTS[os.environ["BENCH_CONTESTANT"]](), name="bench.no_op", ignore_result=True)

if __name__ == "__main__":
    # Not by ``celery worker``: Celery's command line imports the commands of all plugins that are installed.
    app.Worker(
        pool="prefork",
        concurrency=int(os.environ["BENCH_CONCURRENCY"]),
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        hostname=f"{app.conf.task_default_queue}@bench",
    ).start()
