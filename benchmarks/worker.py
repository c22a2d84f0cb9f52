"""7: what a broadcast event costs a real prefork worker, all of its processes included."""

from __future__ import annotations

import random
from contextlib import ExitStack

from benchmarks.bench import Bench
from benchmarks.figures import Figure, Table, at_most
from benchmarks.tasks import LINGER_MS
from benchmarks.workers import Worker

__all__ = ["measure"]

TASKS = 20_000
ROUNDS = 5

PLUGIN, LINGERING = "plugin, one broadcast event", f"the same, with linger_ms = {LINGER_MS}"

NAMES = {"none": "no plugin", "plugin": PLUGIN, "lingering": LINGERING, "handler": "handler with psycopg_pool"}


def measure(bench: Bench) -> list[Table]:
    rounds = 1 if bench.quick else ROUNDS
    times = bench.times(TASKS) // 10 if bench.quick else TASKS // ROUNDS
    figures = {contestant: Figure(name) for contestant, name in NAMES.items()}
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(bench, contestant)) for contestant in NAMES]
        for worker in workers:
            worker.wait_ready()
            worker.run(bench.times(200))  # warming up: pools, caches, connections
        before = {worker.name: worker.published() for worker in workers}
        for _ in range(rounds):
            for worker in random.sample(workers, len(workers)):
                figures[worker.name].taken.append(worker.run(times) / times * 1e6)
        for worker in workers:
            worker.begin_stop()
            expected = 0 if worker.name == "none" else rounds * times
            came = worker.published() - before[worker.name]
            assert came == expected, f"{came} of {expected} events of worker {worker.name!r} came"
    table = Table(
        f"7. CPU of a prefork worker with two children, {rounds * times:,} no-op tasks each",
        "µs per task",
        list(figures.values()),
        figures["none"],
        notes=[f"The broker is {'Redis' if 'Redis' in bench.brokers else 'a folder'}; Postgres' own CPU is not counted."],
    )
    table.goals = [
        at_most(f"{NAMES[name]} / {NAMES['none']}, added", table.added(figures[name]) / figures["none"].best, 0.03)
        for name in ("plugin", "lingering")
    ]
    return [table]
