"""9: what having the plugin costs before and beside any event: imports, memory, threads, connections, wake-ups."""

from __future__ import annotations

import compileall
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

import celery_tasker_events
from benchmarks.bench import Bench
from benchmarks.figures import Figure, Goal, Table, at_most
from benchmarks.workers import Worker

__all__ = ["measure"]

#: What is imported before the clock starts, and what it is called.
IMPORTS = {
    "celery, and an app with its tasks": "from celery import Celery; app = Celery('bench'); app.tasks",
    # Not celery.bin: Celery's command line imports the commands of all plugins that are installed.
    "what a worker of celery imports": "from celery import Celery; app = Celery('bench'); app.WorkController; "
    "import celery.apps.worker, celery.concurrency.prefork, celery.worker.consumer, kombu.transport.redis",
}

PLUGIN = "from celery_tasker_events import DomainEvents; DomainEvents(app)"
PUBLISHING = "import celery_tasker_events.runtime, celery_tasker_events.schema"
PSYCOPG = "import psycopg, psycopg_pool"

TASKS = 2000

#: Seconds after the last event in which what watches over it may still look, twice at most, and seconds that are watched then.
SETTLING, IDLE = 11.0, 10.0


def measure(bench: Bench) -> list[Table]:
    # As pip does where it installs the package: else every process would compile it, and that would be measured.
    compileall.compile_dir(Path(celery_tasker_events.__file__).parent, quiet=1)
    return [_imports(bench), *_workers(bench)]


def _imports(bench: Bench) -> Table:
    baseline = Figure("celery, and an app with its tasks: by itself")
    above = {name: Figure(f"the plugin, above {name}") for name in IMPORTS}
    publishing = Figure("what publishing needs, above that: once, in a worker's main process")
    psycopg = Figure("psycopg and its pool alone, above what a worker of celery imports")
    for _ in range(2 if bench.quick else 10):
        baseline.taken.append(_imported("pass", IMPORTS["celery, and an app with its tasks"]))
        for name, before in IMPORTS.items():
            above[name].taken.append(_imported(before, PLUGIN))
        worker = IMPORTS["what a worker of celery imports"]
        publishing.taken.append(_imported(f"{worker}; {PLUGIN}", PUBLISHING))
        psycopg.taken.append(_imported(worker, PSYCOPG))
    goals = [at_most(f"{figure.name}, by minima", figure.best, 60) for figure in above.values()]
    return Table("9. Import: CPU of a fresh interpreter", "ms", [baseline, *above.values(), publishing, psycopg], goals=goals)


def _imported(before: str, measured: str) -> float:
    """Milliseconds of CPU."""
    program = f"import time; {before}; began = time.process_time(); {measured}; print(time.process_time() - began)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return float(done.stdout) * 1e3


def _workers(bench: Bench) -> list[Table]:
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(bench, name)) for name in ("none", "plugin")]
        for worker in workers:
            worker.wait_ready()
        before = {worker.name: _Look(worker) for worker in workers}
        for worker in workers:
            worker.run(bench.times(TASKS))
        after = {worker.name: _Look(worker) for worker in workers}
        time.sleep(0 if bench.quick else SETTLING)
        wake_ups = _wake_ups(workers, IDLE / 10 if bench.quick else IDLE)
        # After the others, which would have a smaller share of what psycopg's pages hold.
        handler = stack.enter_context(Worker(bench, "handler"))
        handler.wait_ready()
        handler.run(bench.times(TASKS))
        after[handler.name] = _Look(handler)
        for worker in (*workers, handler):
            worker.begin_stop()
        return [
            _memory(before, after),
            _threads(before, after),
            Table(
                "9. Wake-ups while idle, after the events",
                "a second",
                [*wake_ups.values()],
                goals=[
                    at_most(f"{kind}, plugin, added", wake_ups[f"{kind}, plugin"].best - wake_ups[f"{kind}, none"].best, limit)
                    for kind, limit in (("children", 0), ("main process", 0.5))
                ],
                notes=["The main process' event loop wakes up by itself; it has no thread of the plugin's."],
            ),
        ]


class _Look:
    """What a worker's processes hold at the moment."""

    def __init__(self, worker: Worker) -> None:
        # What was freed may be held by the allocator still; all contestants alike.
        self.memory = [child.memory_full_info() for child in worker.children]
        self.child_threads = [child.num_threads() for child in worker.children]
        self.main_threads = worker.main.num_threads()
        self.connections = worker.connections()


def _memory(before: dict[str, _Look], after: dict[str, _Look]) -> Table:
    figures = [
        Figure(f"{kind.upper()}, {name}, {when}", [getattr(info, kind) / 2**20 for info in looks[name].memory])
        for kind in ("rss", "pss", "uss")
        for when, looks in (("at the start", before), ("after the events", after))
        for name in looks
    ]
    table = Table("9. Memory of each worker child", "MB", figures)
    added = {
        f"{kind}, {name}": table.named(f"{kind}, {name}, after the events").median
        - table.named(f"{kind}, none, after the events").median
        for kind in ("RSS", "PSS", "USS")
        for name in ("plugin", "handler")
    }
    table.goals = [at_most("PSS, plugin, added after the events", added["PSS, plugin"], 8)]
    table.notes = [
        "Added after the events: " + "; ".join(f"{name} {megabytes:.1f}" for name, megabytes in added.items()) + " MB.",
        "The handler has psycopg and psycopg_pool, and nothing else, beside what every worker has.",
        "USS is a process' alone; RSS counts in full what the children share with the main process, PSS each one's share.",
    ]
    return table


def _threads(before: dict[str, _Look], after: dict[str, _Look]) -> Table:
    names = ("none", "plugin")
    figures = [
        *(Figure(f"threads of a child, {name}, at the start", list(map(float, before[name].child_threads))) for name in names),
        *(Figure(f"threads of a child, {name}, after the events", list(map(float, after[name].child_threads))) for name in names),
        *(Figure(f"threads of the main process, {name}", [float(after[name].main_threads)]) for name in names),
        *(Figure(f"connections to Postgres, {name}, at the start", [float(before[name].connections)]) for name in names),
        *(Figure(f"connections to Postgres, {name}, after the events", [float(after[name].connections)]) for name in names),
    ]
    table = Table("9. Threads of each process, and connections of the whole worker", "", figures)

    def added(text: str) -> Goal:
        plugin, none = (max(table.named(text.format(name)).taken) for name in ("plugin", "none"))
        return at_most(text.format("plugin") + ", added", plugin - none, 0)

    table.goals = [
        added("threads of a child, {}, at the start"),
        added("threads of the main process, {}"),
        added("connections to Postgres, {}, at the start"),
    ]
    return table


def _wake_ups(workers: list[Worker], seconds: float) -> dict[str, Figure]:
    """How often a second each process' threads were woken up, by the context switches that they asked for."""
    processes = {f"children, {worker.name}": worker.children for worker in workers}
    processes |= {f"main process, {worker.name}": [worker.main] for worker in workers}
    before = {name: [_switches(process) for process in found] for name, found in processes.items()}
    time.sleep(seconds)
    return {
        name: Figure(name, [(_switches(process) - count) / seconds for process, count in zip(found, before[name], strict=True)])
        for name, found in processes.items()
    }


def _switches(process: psutil.Process) -> int:
    total = 0
    for status in Path(f"/proc/{process.pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total
