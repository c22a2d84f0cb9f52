"""8: how the cost of an event grows with declarations, subscribers, bytes, and what is in the queue already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from benchmarks.arena import Arena, Entry
from benchmarks.bench import Bench
from benchmarks.figures import Figure, Goal, Table, at_most
from benchmarks.tasks import NAMESPACE, QUEUE, RESULT, no_op
from benchmarks.work import PlainTask, WithPlugin
from celery_tasker_events import publishes_events

__all__ = ["measure"]

EVENTS = 500

COUNTS = (1, 10, 100, 1_000, 10_000)
BYTES = (100, 1_000, 10_000, 100_000)
HELD = 1_000_000

#: How much more the largest may cost than the smallest where the cost is to be flat: what two equal contestants may differ by.
FLAT = 1.15

DURABLE = {"delivery_mode": "durable"}


class ManyDeclarations(WithPlugin):
    """The task's event is one of that many."""

    def __init__(self, dsn: str, count: int) -> None:
        self._count = count
        super().__init__(dsn, DURABLE)

    def prepare(self) -> None:
        super().prepare()
        for number in range(self._count - 1):
            self.app.task(_declared(number), name=f"bench.task_{number}")


class ManySubscribers(WithPlugin):
    """One subscriber wants the event; all others want others, by patterns."""

    def __init__(self, count: int) -> None:
        self._count = count
        super().__init__(None, {"delivery_mode": "fast"})

    def prepare(self) -> None:
        super().prepare()
        for number in range(self._count - 1):
            self.events.subscribe(f"other_{number}.*")(_subscriber(number))
        self.events.subscribe("payment.*")(_subscriber(-1))


class LargeTask(PlainTask):
    """The task returns about that many bytes, as an object with a list of small objects; nobody is told."""

    def __init__(self, size: int) -> None:
        self._result = _of_size(size)
        super().__init__()

    def function(self) -> Callable[[], Any]:
        return _returning(self._result)


class LargePayload(WithPlugin):
    """The same task, with an event."""

    def __init__(self, dsn: str, size: int) -> None:
        self._result = _of_size(size)
        super().__init__(dsn, DURABLE)

    def function(self) -> Callable[[], Any]:
        return publishes_events("payment.processed", namespace=NAMESPACE, delivery_mode="durable")(_returning(self._result))


def measure(bench: Bench) -> list[Table]:
    counts, sizes = bench.sizes(COUNTS), bench.sizes(BYTES)
    held = HELD // 100 if bench.quick else HELD
    full, empty = bench.new_database(QUEUE), bench.new_database(QUEUE)
    _fill(full, held)
    declared = [(f"{count:,} declarations", ManyDeclarations, (bench.new_database(QUEUE), count)) for count in counts]
    subscribed = [(f"{count:,} subscribers", ManySubscribers, (count,)) for count in counts]
    queues = [("an empty queue", WithPlugin, (empty, DURABLE)), (f"{held:,} messages held", WithPlugin, (full, DURABLE))]
    return [
        *_flat(bench, "8. Cost by number of declarations", declared, ("thread", "process")),
        *_flat(bench, "8. Cost by number of patterns, each with a subscriber; one matches", subscribed, ("thread", "process")),
        _linear(bench, sizes),
        *_flat(bench, "8. Cost by what is in the queue already", queues, ("process", "elapsed")),
    ]


_CALLED = {"thread": "CPU of the task's thread", "process": "CPU of the process", "elapsed": "until the commit"}


def _flat(bench: Bench, title: str, entries: Sequence[Entry], kinds: Sequence[str]) -> list[Table]:
    with Arena(entries) as arena:
        arena.measure(bench.times(EVENTS), bench.rounds)
        return [
            Table(f"{title}: {_CALLED[kind]}", "µs per event", figures, goals=[_flatness(figures)])
            for kind in kinds
            for figures in [arena.figures(kind)]
        ]


def _flatness(figures: Sequence[Figure]) -> Goal:
    first, last = figures[0], figures[-1]
    return at_most(f"{last.name} / {first.name}, by minima", last.best / first.best, FLAT)


def _linear(bench: Bench, sizes: Sequence[int]) -> Table:
    plain: list[Entry] = [(f"no plugin, {size:,} bytes", LargeTask, (size,)) for size in sizes]
    events: list[Entry] = [(f"plugin, {size:,} bytes", LargePayload, (bench.new_database(QUEUE), size)) for size in sizes]
    with Arena([*plain, *events]) as arena:
        arena.measure(bench.times(EVENTS // 2), bench.rounds)
        figures = arena.figures("process")
    added = [event.best - alone.best for alone, event in zip(figures[: len(sizes)], figures[len(sizes) :], strict=True)]
    slopes = [
        (larger - smaller) / (size - before) * 1000
        for smaller, larger, before, size in zip(added, added[1:], sizes, sizes[1:], strict=False)
    ]
    goals = [at_most("the last further byte / the one before it", slopes[-1] / slopes[-2], 1.5)] if len(slopes) > 1 else []
    return Table(
        "8. Cost by size of the payload: CPU of the process",
        "µs per event",
        figures,
        goals=goals,
        notes=[
            f"The plugin adds {', '.join(f'{cost:.1f}' for cost in added)} µs.",
            f"Each further 1,000 bytes, from step to step: {', '.join(f'{slope:.2f}' for slope in slopes)} µs.",
        ],
    )


def _of_size(size: int) -> dict[str, Any]:
    item = {"sku": "A-0001", "quantity": 1, "price": 9.99}
    return {**RESULT, "items": [item] * max(0, (size - 60) // 47)}


def _returning(result: Any) -> Callable[[], Any]:
    def large() -> Any:
        return result

    return large


def _declared(number: int) -> Callable[[], Any]:
    def task() -> Any:
        return no_op()

    return publishes_events(f"task_{number}.done", namespace=NAMESPACE, delivery_mode="durable")(task)


def _subscriber(number: int) -> Callable[[object], None]:
    def receive(event: object) -> None:
        """Only the way to it counts."""

    receive.__qualname__ = f"receive_{number}"
    return receive


def _fill(dsn: str, count: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            f'insert into pgmq.q_{QUEUE} (vt, message) select now(), \'{{"event_name": "held"}}\' from generate_series(1, %s)',
            [count],
        )
        connection.execute(f"vacuum analyze pgmq.q_{QUEUE}")
