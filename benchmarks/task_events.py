"""1 to 3: what one event costs the task's thread, and its process, beside other ways to tell of it."""

from __future__ import annotations

from benchmarks.arena import Arena, Entry
from benchmarks.bench import Bench
from benchmarks.figures import Figure, Table, at_most
from benchmarks.tasks import LINGER_MS, QUEUE, SCHEMA
from benchmarks.work import (
    PlainTask,
    WithApplyAsync,
    WithFailures,
    WithHandler,
    WithIdleReceiver,
    WithKombu,
    WithPgmqClient,
    WithPlugin,
)

__all__ = ["measure"]

#: Less than the channel holds, so that what is measured is the channel and not what happens when it is full.
TASKS = 500

#: Tasks a second where they don't come in a row: a busy worker child's.
PACE, PACED_ROUNDS = 500, 5

IDLE = "a receiver that does nothing"
NONE, UNDECLARED, PLUGIN = "no plugin", "plugin, nothing declared", "plugin, one durable event"
NONE_FAILING, FAILING = "nothing declared, one on failure elsewhere", "one durable event, one on failure elsewhere"
VALIDATED, HANDLER = "the same, with a schema", "handler with psycopg_pool"
LINGERING = f"the same, with linger_ms = {LINGER_MS}"


def measure(bench: Bench) -> list[Table]:
    durable = {"delivery_mode": "durable"}
    entries: list[Entry] = [
        (NONE, PlainTask, ()),
        (IDLE, WithIdleReceiver, ()),
        (UNDECLARED, WithPlugin, (bench.new_database(QUEUE), None)),
        (NONE_FAILING, WithFailures, (bench.new_database(QUEUE), None)),
        (PLUGIN, WithPlugin, (bench.new_database(QUEUE), durable)),
        (FAILING, WithFailures, (bench.new_database(QUEUE), durable)),
        (LINGERING, WithPlugin, (bench.new_database(QUEUE), durable, {"tasker_events_linger_ms": LINGER_MS})),
        (VALIDATED, WithPlugin, (bench.new_database(QUEUE), {**durable, "schema": SCHEMA})),
        (HANDLER, WithHandler, (bench.new_database(QUEUE),)),
        ("handler with the pgmq client", WithPgmqClient, (bench.new_database(QUEUE),)),
    ]
    for name, url in bench.brokers.items():
        entries.append((f"handler, kombu to {name}", WithKombu, (url,)))
        entries.append((f"handler, apply_async over {name}", WithApplyAsync, (url,)))
    with Arena(entries) as arena:
        arena.measure(bench.times(TASKS), bench.rounds)
        return [
            _thread_table(arena.figures("thread")),
            Table(
                "1, 2. How long the task's thread was held up, waiting included",
                "µs per task",
                arena.figures("held"),
                notes=["Elapsed time: whatever else runs on the machine counts, too."],
            ),
            _process_table("3. CPU of the whole process, until all is committed", arena.figures("process")),
            _process_table(f"3. The same at {PACE} tasks a second, as in a busy child of a worker", _paced(bench, arena)),
        ]


def _paced(bench: Bench, arena: Arena) -> list[Figure]:
    figures = {seat.name: Figure(seat.name) for seat in arena.seats}
    for seat in arena.turns(1 if bench.quick else PACED_ROUNDS):
        figures[seat.name].taken.append(seat.call("paced_cpu", PACE, bench.times(PACE)) * 1e6)
    return list(figures.values())


def _thread_table(figures: list[Figure]) -> Table:
    table = Table("1, 2. CPU of the task's thread", "µs per task", figures, figures[0])
    added = {figure.name: table.added(figure) for figure in figures}
    table.goals = [
        at_most(f"{PLUGIN}, added", added[PLUGIN], 10),
        at_most(f"{PLUGIN} / {HANDLER}, added", added[PLUGIN] / added[HANDLER], 1 / 30),
        at_most(f"{UNDECLARED}, added", added[UNDECLARED], 0.5),
        at_most(f"{UNDECLARED}, above {IDLE}", added[UNDECLARED] - added[IDLE], 0.5),
    ]
    table.notes = ["CPU alone: a handler waits for its server's answer on top of it."]
    return table


def _process_table(title: str, figures: list[Figure]) -> Table:
    table = Table(title, "µs per task", figures, figures[0])
    added = {figure.name: table.added(figure) for figure in figures}
    table.goals = [
        at_most(f"{name} / {HANDLER}, added", added[name] / added[HANDLER], 1 / 4) for name in (PLUGIN, LINGERING, VALIDATED)
    ]
    return table
