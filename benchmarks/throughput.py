"""4: durable events per second of one process, from the signal to the commit."""

from __future__ import annotations

import orjson
import psycopg

from benchmarks.arena import Arena, Entry
from benchmarks.bench import Bench
from benchmarks.figures import Figure, Table, at_least
from benchmarks.tasks import NAMESPACE, QUEUE, SCHEMA, event_of, no_op
from benchmarks.work import ROOM, PlainTask, WithHandler, WithPgmqClient, WithPlugin, pgmq_client
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.durable.pool import make_pool
from celery_tasker_events.durable.writer import DurableWriter
from celery_tasker_events.telemetry.counters import Counters

__all__ = ["measure"]

EVENTS = 10_000
ROUNDS = 7

PLUGIN, HANDLER, COPY = "plugin, with a schema", "handler with psycopg_pool", "raw COPY"
WRITER, TASKS = "the plugin's writer alone", "no plugin: tasks without events"
CLIENT = "handler with the pgmq client"


class SendBatch:
    """The ``pgmq`` client, a hundred messages a call, without Celery."""

    def __init__(self, dsn: str) -> None:
        self._queue = pgmq_client(dsn)

    def run(self, times: int) -> None:
        for start in range(0, times, 100):
            self._queue.send_batch(QUEUE, [event_of(no_op()) for _ in range(min(100, times - start))])

    def settle(self) -> None:
        """Each call has committed."""

    def close(self) -> None:
        self._queue.pool.close()


class RawCopy:
    """The limit: COPY of messages that are serialised already, into a table like a queue's, in one transaction a round."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn)
        self._connection.execute(f"create table raw (like pgmq.q_{QUEUE} including all)")
        self._connection.commit()
        self._message = orjson.dumps(event_of(no_op())).decode()

    def run(self, times: int) -> None:
        with self._connection.cursor().copy("copy raw (vt, message) from stdin") as copy:
            for _ in range(times):
                copy.write_row(("2026-01-01", self._message))
        self._connection.commit()

    def settle(self) -> None:
        """It has committed."""

    def close(self) -> None:
        self._connection.close()


class WriterAlone:
    """The plugin's own way to the database, from messages that are made already: without Celery and the rest of the plugin."""

    def __init__(self, dsn: str) -> None:
        self._writer = DurableWriter(lambda: make_pool(dsn), 1_000_000, Counters(), log_dropped=True)
        fields = {"event_name": "payment.processed", "namespace": NAMESPACE}
        self._message = DurableMessage(QUEUE, orjson.dumps(event_of(no_op())), b"{}", fields)

    def run(self, times: int) -> None:
        for _ in range(times):
            self._writer.send(self._message)

    def settle(self) -> None:
        assert self._writer.drain(120), "not drained within two minutes"

    def close(self) -> None:
        self._writer.close(5)


def measure(bench: Bench) -> list[Table]:
    declared = {"delivery_mode": "durable", "schema": SCHEMA}
    entries: list[Entry] = [
        (PLUGIN, WithPlugin, (bench.new_database(QUEUE), declared, ROOM)),
        (HANDLER, WithHandler, (bench.new_database(QUEUE),)),
        (CLIENT, WithPgmqClient, (bench.new_database(QUEUE),)),
        ("pgmq client, send_batch(100)", SendBatch, (bench.new_database(QUEUE),)),
        (WRITER, WriterAlone, (bench.new_database(QUEUE),)),
        (TASKS, PlainTask, ()),
        (COPY, RawCopy, (bench.new_database(QUEUE),)),
    ]
    with Arena(entries) as arena:
        arena.measure(bench.times(EVENTS), 2 if bench.quick else ROUNDS, (HANDLER, CLIENT))
        figures = [Figure(figure.name, [1 / seconds for seconds in figure.taken]) for figure in arena.figures("elapsed", 1)]
    best = {figure.name: max(figure.taken) for figure in figures}
    return [
        Table(
            "4. Throughput of one process, from the signal to the commit",
            "events per second",
            figures,
            goals=[
                at_least(f"{PLUGIN} / {COPY}, by maxima", best[PLUGIN] / best[COPY], 0.5),
                at_least(f"{WRITER} / {COPY}, by maxima", best[WRITER] / best[COPY], 0.5),
                at_least(f"{PLUGIN} / {HANDLER}, by maxima", best[PLUGIN] / best[HANDLER], 10),
            ],
            notes=[
                "Plugin and handlers run a Celery task for each event in their process; the writer, send_batch and COPY do not.",
                f"Tasks and events of one process share its one interpreter lock: {TASKS} bounds what has a task.",
            ],
        )
    ]
