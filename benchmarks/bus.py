"""6: the fast path: from the task's return to the subscriber's call, and the bus alone beside blinker and pyee."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Callable, Sequence
from typing import Any

import blinker
import pyee

from benchmarks.arena import Arena
from benchmarks.bench import Bench
from benchmarks.figures import Figure, Table, at_most, percentile
from benchmarks.tasks import NAMESPACE
from benchmarks.work import ROOM, WithPlugin, WithReceiver
from celery_tasker_events.bus.bus import InProcessBus
from celery_tasker_events.bus.registry import SubscriberRegistry
from celery_tasker_events.event import DomainEvent, EventMetadata, ExecutionResult
from celery_tasker_events.telemetry.counters import Counters

__all__ = ["measure"]

EVENT = "payment.processed"

PLUGIN, BLINKER, PYEE = "plugin", "blinker", "pyee"

#: What the load is called, events a second, and events in a round. At 200 a second each event finds all threads asleep.
LOADS = (("idle", 200, 500), ("10,000 events a second", 10_000, 10_000))

RECEIVERS = (1, 10, 100)
EVENTS = 1000


class Late:
    """What the contestants below have in common: they note how late their receiver is called."""

    def __init__(self) -> None:
        self._seen: list[float] = []

    def take(self, payload: Any) -> None:
        self._seen.append(time.monotonic() - payload["at"])

    def seen(self) -> list[float]:
        """Seconds, of each event since it was last asked."""
        seen, self._seen = self._seen, []
        return seen


class FastPlugin(Late, WithPlugin):
    def __init__(self) -> None:
        Late.__init__(self)
        WithPlugin.__init__(self, None, {"delivery_mode": "fast"}, ROOM)

    def prepare(self) -> None:
        super().prepare()
        self.events.subscribe("payment.*")(lambda event: self.take(event.payload))


class WithBlinker(Late, WithReceiver):
    def __init__(self) -> None:
        Late.__init__(self)
        WithReceiver.__init__(self)

    def make_teller(self) -> Callable[[Any], object]:
        signal = blinker.Signal(EVENT)
        signal.connect(self._receive, weak=False)
        return lambda event: signal.send(self.app, event=event)

    def _receive(self, _sender: object, event: Any) -> None:
        self.take(event["payload"])


class WithPyee(Late, WithReceiver):
    def __init__(self) -> None:
        Late.__init__(self)
        WithReceiver.__init__(self)

    def make_teller(self) -> Callable[[Any], object]:
        emitter = pyee.EventEmitter()
        emitter.on(EVENT, lambda event: self.take(event["payload"]))
        return lambda event: emitter.emit(EVENT, event)


def measure(bench: Bench) -> list[Table]:
    with Arena([(PLUGIN, FastPlugin, ()), (BLINKER, WithBlinker, ()), (PYEE, WithPyee, ())]) as arena:
        tables = [_latency(bench, arena, *load) for load in LOADS]
    return [*tables, _cost(bench)]


def _latency(bench: Bench, arena: Arena, load: str, rate: int, times: int) -> Table:
    figures = {f"{seat.name}, {share}": Figure(f"{seat.name}, {share}") for seat in arena.seats for share in ("p50", "p99")}
    for seat in arena.turns(max(2, bench.rounds // 3)):
        seat.call("run_paced", rate, bench.times(times))
        seat.call("settle")
        seen = seat.call("seen")
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            figures[f"{seat.name}, {name}"].taken.append(percentile(seen, share) * 1e3)
    return Table(
        f"6. From the task's return to the subscriber's call, {load}",
        "ms",
        list(figures.values()),
        goals=[at_most(f"{PLUGIN}, p99", figures[f"{PLUGIN}, p99"].median, 1)] if load == "idle" else [],
        notes=["blinker and pyee call their receivers on the task's thread: a slow one holds up the task."],
    )


def _cost(bench: Bench) -> Table:
    runs: dict[str, Callable[[Sequence[DomainEvent]], object]] = {}
    for count in RECEIVERS:
        runs[f"{PLUGIN}, {count}"] = _plugin(count)
        runs[f"{BLINKER}, {count}"] = _blinker(count)
        runs[f"{PYEE}, {count}"] = _pyee(count)
    figures = {name: Figure(name) for name in runs}
    times = bench.times(EVENTS)
    for _ in range(bench.rounds):
        for name, run in runs.items():
            events = _events(times)
            started = time.process_time()
            run(events)
            calls = times * int(name.rpartition(" ")[2])
            figures[name].taken.append((time.process_time() - started) / calls * 1e6)
    best = {name: figure.best for name, figure in figures.items()}
    return Table(
        "6. CPU of the process for each call of a receiver, by number of receivers",
        "µs per receiver",
        list(figures.values()),
        goals=[
            at_most(f"{PLUGIN} / {BLINKER}, {count} receivers", best[f"{PLUGIN}, {count}"] / best[f"{BLINKER}, {count}"], 1)
            for count in RECEIVERS
        ],
        notes=["The bus matches patterns, has time limits and statistics, and calls on its own thread; the others do not."],
    )


def _plugin(count: int) -> Callable[[Sequence[DomainEvent]], object]:
    registry = SubscriberRegistry()
    for receiver in _receivers(count):
        registry.add("payment.*", receiver)
    bus = InProcessBus(
        registry,
        Counters(),
        buffer_size=1_000_000,
        timeout=5,
        deduplication_size=10_000,
        log_errors=True,
        log_dropped=True,
    )

    def run(events: Sequence[DomainEvent]) -> None:
        for event in events:
            bus.publish(event)
        assert bus.drain(120), "not drained within two minutes"

    return run


def _blinker(count: int) -> Callable[[Sequence[DomainEvent]], object]:
    signal = blinker.Signal(EVENT)
    for receiver in _receivers(count):
        signal.connect(receiver, weak=False)

    def run(events: Sequence[DomainEvent]) -> None:
        for event in events:
            signal.send(event)

    return run


def _pyee(count: int) -> Callable[[Sequence[DomainEvent]], object]:
    emitter = pyee.EventEmitter()
    for receiver in _receivers(count):
        emitter.on(EVENT, receiver)

    def run(events: Sequence[DomainEvent]) -> None:
        for event in events:
            emitter.emit(EVENT, event)

    return run


def _receivers(count: int) -> list[Callable[[object], None]]:
    def make() -> Callable[[object], None]:
        def receive(event: object) -> None:
            """What is measured is the way to it."""

        return receive

    return [make() for _ in range(count)]


def _events(count: int) -> list[DomainEvent]:
    now = datetime.datetime.now(datetime.timezone.utc)
    metadata = EventMetadata("task", "step", "no_op", NAMESPACE, "correlation", now, "bench@host", "")
    made = []
    for _ in range(count):
        name = str(time.perf_counter_ns())
        metadata = dataclasses.replace(metadata, idempotency_key=name)
        made.append(DomainEvent(name, EVENT, {}, metadata, ExecutionResult(True, "completed")))
    return made
