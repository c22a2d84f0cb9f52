"""5: how long after the task's return a durable event can be read in its queue, at several rates."""

from __future__ import annotations

import time
from collections.abc import Sequence

import psycopg
from psycopg.types.json import Jsonb

from benchmarks.arena import Arena, Seat
from benchmarks.bench import Bench
from benchmarks.figures import Figure, Goal, Table, at_most, percentile
from benchmarks.tasks import QUEUE, SCHEMA, event_of, no_op
from benchmarks.work import ROOM, WithHandler, WithPlugin, paced

__all__ = ["measure"]

#: Events a second, and how many seconds of them in each round.
RATES = ((1_000, 2.0), (10, 2.0), (10_000, 1.0))

ROUNDS = 5

PLUGIN, HANDLER, BARE = "plugin", "handler with psycopg_pool", "bare pgmq.send"

#: Seconds without a new message after which the watcher gives up.
PATIENCE = 60.0


class BareSend:
    """The yardstick: ``pgmq.send`` on an open connection, without Celery."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._round_trips: list[float] = []

    def run_paced(self, rate: float, times: int) -> float:
        self._round_trips.clear()
        return paced(self._send, rate, times)

    def round_trips(self) -> list[float]:
        """Seconds that each call of the last run took."""
        return self._round_trips

    def _send(self) -> None:
        started = time.monotonic()
        self._connection.execute("select pgmq.send(%s, %s)", [QUEUE, Jsonb(event_of(no_op()))])
        self._round_trips.append(time.monotonic() - started)

    def settle(self) -> None:
        """Each call has committed."""

    def close(self) -> None:
        self._connection.close()


class Watcher:
    """Reads a queue again and again, from a process of its own, and notes when it first sees each message."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True, prepare_threshold=0)
        self._last = 0

    def look(self) -> list[float]:
        """When each of the messages that are new was sent."""
        rows = self._connection.execute(
            f"select msg_id, (message->'payload'->>'at')::float8 from pgmq.q_{QUEUE} where msg_id > %s order by msg_id",
            [self._last],
        ).fetchall()
        if rows:
            self._last = rows[-1][0]
        return [sent for _, sent in rows]

    def watch(self, times: int) -> list[float]:
        """Seconds between the sending of each message and the moment in which it was read."""
        seen: list[float] = []
        deadline = time.monotonic() + PATIENCE
        while len(seen) < times and time.monotonic() < deadline:
            if found := self.look():
                now = time.monotonic()
                seen += [now - sent for sent in found]
                deadline = now + PATIENCE
        assert len(seen) == times, f"{len(seen)} of {times} messages came"
        return seen

    def resolution(self, times: int) -> float:
        """Seconds that one look takes: so much later than it could may a message be seen."""
        started = time.monotonic()
        for _ in range(times):
            self.look()
        return (time.monotonic() - started) / times

    def close(self) -> None:
        self._connection.close()


def measure(bench: Bench) -> list[Table]:
    declared = {"delivery_mode": "durable", "schema": SCHEMA}
    dsns = {name: bench.new_database(QUEUE) for name in (PLUGIN, HANDLER, BARE)}
    contestants = Arena(
        [
            (PLUGIN, WithPlugin, (dsns[PLUGIN], declared, ROOM)),
            (HANDLER, WithHandler, (dsns[HANDLER],)),
            (BARE, BareSend, (dsns[BARE],)),
        ]
    )
    watching = Arena([(name, Watcher, (dsn,)) for name, dsn in dsns.items()])
    with contestants, watching:
        watchers = {seat.name: seat for seat in watching.seats}
        for seat in contestants.seats:
            _run(seat, watchers[seat.name], 100, 50)
        return [_at(bench, contestants, watchers, rate, seconds) for rate, seconds in bench.sizes(RATES)]


def _at(bench: Bench, arena: Arena, watchers: dict[str, Seat], rate: int, seconds: float) -> Table:
    figures = {f"{seat.name}, {share}": Figure(f"{seat.name}, {share}") for seat in arena.seats for share in ("p50", "p99")}
    round_trip = Figure(f"{BARE}, p50 of its own round trip")
    reached: dict[str, list[float]] = {seat.name: [] for seat in arena.seats}
    times = bench.times(int(rate * seconds))
    for seat in arena.turns(2 if bench.quick else ROUNDS):
        # Who can't reach the rate takes as long for a part of the events.
        fewer = 4 if rate > 1_000 and seat.name != PLUGIN else 1
        rate_reached, latencies = _run(seat, watchers[seat.name], rate, times // fewer)
        reached[seat.name].append(rate_reached)
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            figures[f"{seat.name}, {name}"].taken.append(percentile(latencies, share) * 1e3)
        if seat.name == BARE:
            round_trip.taken.append(percentile(seat.call("round_trips"), 0.5) * 1e3)
    resolution = min(seat.call("resolution", 100) for seat in watchers.values()) * 1e3
    told = ", ".join(f"{name} {max(rates):,.0f}" for name, rates in reached.items())
    return Table(
        f"5. Latency from the task's return to readable in the queue, {rate:,} events a second",
        "ms",
        [*figures.values(), round_trip],
        goals=_goals(rate, figures),
        notes=[f"Events a second that were reached: {told}.", f"One look of the watcher takes {resolution:.2f} ms."],
    )


def _run(seat: Seat, watcher: Seat, rate: int, times: int) -> tuple[float, Sequence[float]]:
    watcher.call("look")
    watcher.begin("watch", times)
    reached: float = seat.call("run_paced", rate, times)
    seat.call("settle")
    return reached, watcher.result()


def _goals(rate: int, figures: dict[str, Figure]) -> list[Goal]:
    plugin, bare = figures[f"{PLUGIN}, p50"].median, figures[f"{BARE}, p50"].median
    goals = []
    if rate <= 1_000:
        goals.append(at_most(f"{PLUGIN} / {BARE}, p50", plugin / bare, 1.5))
    if rate == 1_000:
        goals.append(at_most(f"{PLUGIN}, p99", figures[f"{PLUGIN}, p99"].median, 20))
    return goals
