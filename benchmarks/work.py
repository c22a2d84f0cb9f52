"""What the contestants do: a no-op Celery task whose success is told to others in one way or another."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from celery import Celery, signals
from celery.app.trace import build_tracer
from kombu.connection import Connection
from kombu.entity import Exchange
from pgmq import PGMQueue
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from benchmarks.tasks import NAMESPACE, QUEUE, event_of, no_op
from celery_tasker_events import DomainEvents, publishes_events

__all__ = [
    "ROOM",
    "PlainTask",
    "WithApplyAsync",
    "WithFailures",
    "WithHandler",
    "WithIdleReceiver",
    "WithKombu",
    "WithPgmqClient",
    "WithPlugin",
    "WithReceiver",
    "paced",
    "pgmq_client",
]

#: Settings for contestants that are fed faster than anybody could take it: nothing is dropped, it waits.
ROOM = {f"tasker_events_{name}_buffer_size": 1_000_000 for name in ("command", "durable", "broadcast")}


def _never_run(event: object = None) -> None:
    """A task that is only declared, or sent."""


def paced(work: Callable[[], object], rate: float, times: int) -> float:
    """Do the work at this rate, in times a second, or as fast as it goes if that is slower; return the rate that was reached."""
    started = time.monotonic()
    for number in range(times):
        ahead = started + number / rate - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
        work()
    return times / max(times / rate, time.monotonic() - started)


class PlainTask:
    """The task alone, run by Celery's own tracer as a worker runs it."""

    def __init__(self, **settings: Any) -> None:
        self.app = Celery("bench", broker="memory://", backend="disabled://")
        self.app.conf.update(settings)
        self.prepare()
        task = self.app.task(self.function(), name="bench.no_op", ignore_result=True)
        self.app.finalize()
        self._trace = build_tracer(task.name, self.app.tasks[task.name], app=self.app)
        self._numbers = itertools.count()

    def prepare(self) -> None:
        """Connect what tells of the task's success."""

    def function(self) -> Callable[[], Any]:
        return no_op

    def run(self, times: int) -> None:
        trace, numbers = self._trace, self._numbers
        for _ in range(times):
            # Each task has an id of its own: of two events of one task the second is taken for a repetition.
            task_id = f"00000000-0000-4000-8000-{next(numbers):012x}"
            trace(task_id, (), {}, {"id": task_id, "delivery_info": {}, "hostname": "bench@host"})

    def run_paced(self, rate: float, times: int) -> float:
        return paced(lambda: self.run(1), rate, times)

    def paced_cpu(self, rate: float, times: int) -> float:
        """Seconds of CPU of the process for each task, at this rate in tasks a second, until all is settled."""
        started = time.process_time()
        self.run_paced(rate, times)
        self.settle()
        return (time.process_time() - started) / times

    def settle(self) -> None:
        """Nothing was set off."""

    def close(self) -> None:
        """There is nothing."""


class WithPlugin(PlainTask):
    """The plugin.

    Args:
        declared: The event that is declared for the task, but for its name and namespace; None: there is none.
    """

    #: On what another task's event is due: whoever installs the plugin declares some.
    others = "success"

    def __init__(self, dsn: str | None, declared: dict[str, Any] | None, settings: Mapping[str, Any] | None = None) -> None:
        self._declared = declared
        super().__init__(tasker_events_dsn=dsn, tasker_events_spool_max_bytes=0, **(settings or {}))

    def prepare(self) -> None:
        self.events = DomainEvents(self.app)
        other = publishes_events("other.done", condition=self.others, delivery_mode="fast")(_never_run)
        self.app.task(other, name="bench.other")

    def function(self) -> Callable[[], Any]:
        if self._declared is None:
            return no_op
        return publishes_events([{"name": "payment.processed", "namespace": NAMESPACE, **self._declared}])(no_op)

    def settle(self) -> None:
        assert self.events.drain(120), "not drained within two minutes"

    def close(self) -> None:
        self.events.close()


class WithFailures(WithPlugin):
    """The plugin in an app in which something is due on a failure, too: it has to know when tasks begin."""

    others = "failure"


class WithReceiver(PlainTask):
    """Any other way: a receiver of ``task_success`` that does it at once."""

    def prepare(self) -> None:
        self.tell = self.make_teller()
        signals.task_success.connect(self._on_success, weak=False)

    def make_teller(self) -> Callable[[Any], object]:
        raise NotImplementedError

    def _on_success(self, sender: Any = None, result: Any = None, **_: Any) -> None:
        self.tell(event_of(result))


class WithIdleReceiver(PlainTask):
    """The least that anything costs which listens to successes: a receiver that does nothing."""

    def prepare(self) -> None:
        signals.task_success.connect(_ignore, weak=False)


def _ignore(**_: Any) -> None:
    """Celery passes all by keywords."""


class _WithDatabase(WithReceiver):
    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        super().__init__()


class WithHandler(_WithDatabase):
    """What people write by hand: a psycopg pool and ``pgmq.send``."""

    def make_teller(self) -> Callable[[Any], object]:
        self._pool = ConnectionPool[psycopg.Connection](self._dsn, min_size=1, max_size=4, open=True)

        def tell(event: Any) -> None:
            with self._pool.connection() as connection:
                connection.execute("select pgmq.send(%s, %s)", [QUEUE, Jsonb(event)])

        return tell

    def close(self) -> None:
        self._pool.close()


class WithPgmqClient(_WithDatabase):
    """The ``pgmq`` client's ``send``."""

    def make_teller(self) -> Callable[[Any], object]:
        self._queue = pgmq_client(self._dsn)
        return lambda event: self._queue.send(QUEUE, event)

    def close(self) -> None:
        self._queue.pool.close()


class WithKombu(WithReceiver):
    """A message to an exchange of a broker, by kombu."""

    def __init__(self, url: str) -> None:
        self._url = url
        super().__init__()

    def make_teller(self) -> Callable[[Any], object]:
        make_connection: Any = Connection  # kombu has few type hints
        make_exchange: Any = Exchange
        self._connection = make_connection(self._url)
        exchange = make_exchange("bench_domain_events", type="topic", durable=False, auto_delete=True)
        producer = self._connection.Producer(serializer="json")
        return lambda event: producer.publish(event, exchange=exchange, routing_key="payment.processed", declare=[exchange])

    def close(self) -> None:
        self._connection.release()


class WithApplyAsync(WithReceiver):
    """A second task as the event."""

    def __init__(self, url: str) -> None:
        self._url = url
        super().__init__()

    def make_teller(self) -> Callable[[Any], object]:
        self._listening = Celery("bench-listener", broker=self._url, set_as_current=False)
        self._listening.conf.task_default_queue = "bench_events"
        listener = self._listening.task(_never_run, name="bench.listener", shared=False, ignore_result=True)
        return lambda event: listener.apply_async((event,))

    def close(self) -> None:
        with self._listening.connection_for_write() as connection:
            connection.default_channel.queue_delete("bench_events")


def pgmq_client(dsn: str) -> Any:
    """The client of the ``pgmq`` package, over its own pool's like: it understands no DSN of a Unix socket."""
    pool = ConnectionPool[psycopg.Connection](dsn, min_size=1, max_size=10, open=True)
    return PGMQueue(pool=pool, init_extension=False)
