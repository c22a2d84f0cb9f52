"""Plays a day of a shop, with all that goes wrong on such a day, and compares what each side has seen at its end.

DAY_PAYMENTS=10000 python tests/acceptance/day_of_a_shop.py
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import psycopg

# Run as a script, it has no pytest that does this.
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from program import PROGRAM
from rabbitmq_node import RabbitMQNode
from services import REDIS
from worker_process import WorkerProcess, close, folder_broker, producer, wait_until

from celery_tasker_events.testing.embedded_postgres import EmbeddedPostgres

DAY = Path(__file__).parent / "day"
CHECKOUT = Path(__file__).parents[2]
SIDES = ("payments", "exports")
QUEUE = "day_of_a_shop"

#: Seconds without any new event after which the day is over, or stuck.
PATIENCE = 120

#: Events that the consumer or the forwarder holds at most: so many may come again when it is killed, or loses Postgres.
HELD = 20

#: What goes wrong, how many times.
TROUBLES = {"forwarder killed": 5, "Postgres restarted": 1, "Postgres crashed": 1, "RabbitMQ restarted": 1}

#: How many events may come again: on the way to the consumer Postgres went twice, on that to RabbitMQ all of it went.
MOST_REPEATED = {"consumed": 2 * HELD, "forwarded": sum(TROUBLES.values()) * HELD}

#: After which part of the events that RabbitMQ's reader has seen the forwarder is killed.
KILLS = (0.10, 0.25, 0.45, 0.65, 0.85)


class Program:
    """A process that is started, and may be killed and started anew."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command = command
        self._log = log

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()


@dataclasses.dataclass(frozen=True)
class Side:
    """What one side has seen.

    Attributes:
        in_order: Of each workflow the events, in the order in which they were seen first.
        repeated: How many times an event was seen again, by its id.
        seen: All of it.
    """

    in_order: dict[str, list[str]]
    repeated: int
    seen: list[dict[str, object]]

    @classmethod
    def of(cls, messages: Sequence[dict[str, object]]) -> Side:
        in_order: dict[str, dict[str, None]] = {}
        for message in messages:
            workflow = str(message["metadata"]["task_uuid"])
            in_order.setdefault(workflow, {})[str(message["event_id"])] = None
        events = {workflow: list(ids) for workflow, ids in in_order.items()}
        return cls(events, len(messages) - sum(map(len, events.values())), list(messages))

    def business(self) -> Counter[tuple[str, str]]:
        """How often each workflow has had each event, by name; what was seen again counts once."""
        events = {message["event_id"]: message for message in self.seen}.values()
        return Counter((str(m["metadata"]["task_uuid"]), str(m["event_name"])) for m in events)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was to be published, and what the sides have seen; figures are for people."""

    expected: Counter[tuple[str, str]]
    committed: dict[str, Side]
    consumed: Side
    forwarded: Side
    figures: dict[str, object]


def expected_of(order: int, workflow: str) -> list[tuple[str, str]]:
    if order % 50 == 0:
        return [(workflow, "payment.failed")]
    retried = [(workflow, "payment.retried")] if order % 10 == 0 else []
    return [*retried, (workflow, "payment.processed"), (workflow, "order.shipped")]


def play(payments: int, folder: Path, *, quiet: bool = False) -> Outcome:
    """Play the day, with all files in the folder but those of Postgres.

    Args:
        quiet: Whether nothing goes wrong.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="day-", ignore_cleanup_errors=True)))
        place.chmod(0o755)
        postgres = stack.enter_context(EmbeddedPostgres(place / "postgres"))
        postgres.set_up([f"{side}_domain_events" for side in SIDES])
        rabbitmq = stack.enter_context(RabbitMQNode(folder / "rabbitmq"))
        consumed, forwarded = folder / "consumed", folder / "forwarded"
        consumed.touch()
        forwarded.touch()
        python, dsn = sys.executable, postgres.dsn
        # Short, so that what a killed forwarder held comes again soon; but nothing is to come again on a quiet day.
        lease = "120" if quiet else "5"
        forward = [*PROGRAM, "forward", "exports", "--dsn", dsn, "--to", rabbitmq.url, "--queue", QUEUE]
        options = ["--archive", "--visibility-timeout", lease, "--batch-size", str(HELD)]
        forwarder = Program([*forward, *options], folder / "forwarder.log")
        programs = [
            Program([python, str(DAY / "read.py"), rabbitmq.url, QUEUE, str(forwarded)], folder / "reader.log"),
            Program([python, str(DAY / "consume.py"), dsn, str(consumed), lease, str(HELD)], folder / "consumer.log"),
            forwarder,
        ]
        for program in programs:
            program.start()
            stack.callback(program.stop)
        url = REDIS.url()
        broker = folder_broker(folder / "broker")
        if url is not None:
            prefix = {"global_keyprefix": f"day-{os.getpid()}-"}
            broker = {"broker_url": url, "broker_transport_options": prefix, "worker_timer_precision": 0.05}
        settings = {**broker, "task_ignore_result": True, "result_backend": None, "tasker_events_dsn": dsn}
        settings["tasker_events_spool_dir"] = str(folder / "spool")
        environment = {"SHOP_SETTINGS": json.dumps(settings), "PYTHONPATH": str(CHECKOUT)}
        for name in ("one", "two"):
            worker = WorkerProcess("shop", DAY, folder / f"{name}.log", environment, "-n", f"{name}@day")
            worker.start()
            stack.callback(worker.stop)
        client = producer(settings)
        stack.callback(close, client)
        expected: Counter[tuple[str, str]] = Counter()
        for order in range(1, payments + 1):
            pay = client.signature("shop.pay", [order], app=client)
            workflow = (pay | client.signature("shop.ship", app=client)).apply_async().parent.id
            expected.update(expected_of(order, workflow))
        troubles = [] if quiet else _troubles(postgres, rabbitmq, forwarder)
        done = _live_through(troubles, consumed, forwarded, expected.total())
        with psycopg.connect(dsn) as connection:
            committed = {side: Side.of(_committed(connection, side)) for side in SIDES}
        seconds = time.monotonic() - began
    sides = {"consumed": Side.of(_read(consumed)), "forwarded": Side.of(_read(forwarded))}
    repeated = {name: side.repeated for name, side in {**committed, **sides}.items()}
    seen = {"events": expected.total(), "payments": payments, "workflows": len(sides["consumed"].in_order)}
    figures = {**seen, "seconds": round(seconds), "troubles": done, "seen again": repeated}
    return Outcome(expected, committed, sides["consumed"], sides["forwarded"], figures)


def _troubles(
    postgres: EmbeddedPostgres, rabbitmq: RabbitMQNode, forwarder: Program
) -> list[tuple[float, str, Callable[[], None]]]:
    """What goes wrong, by the part of the events that RabbitMQ's reader has seen by then."""

    def restart_postgres(mode: str) -> None:
        postgres.shut_down(mode)
        postgres.start_again()

    def restart_rabbitmq() -> None:
        rabbitmq.stop()
        rabbitmq.start()

    def kill_forwarder() -> None:
        forwarder.kill()
        forwarder.start()

    return sorted(
        [
            (0.2, "Postgres restarted", lambda: restart_postgres("fast")),
            (0.35, "RabbitMQ restarted", restart_rabbitmq),
            (0.55, "Postgres crashed", lambda: restart_postgres("immediate")),
            *((part, "forwarder killed", kill_forwarder) for part in KILLS),
        ],
        key=lambda trouble: trouble[0],
    )


def _live_through(
    troubles: list[tuple[float, str, Callable[[], None]]], consumed: Path, forwarded: Path, total: int
) -> dict[str, int]:
    """Let everything go wrong in its time, and wait until both sides have all events; or nothing happens any more."""
    done: Counter[str] = Counter()
    counts, moved = (0, 0), time.monotonic()
    while time.monotonic() - moved < PATIENCE:
        now = (_count(consumed), _count(forwarded))
        if now != counts:
            counts, moved = now, time.monotonic()
        while troubles and now[1] >= troubles[0][0] * total:
            _, name, happen = troubles.pop(0)
            happen()
            done[name] += 1
            moved = time.monotonic()
        if not troubles and min(_distinct(consumed), _distinct(forwarded)) >= total:
            break
        time.sleep(0.05)
    return dict(done)


def _committed(connection: psycopg.Connection[tuple[dict[str, object]]], side: str) -> list[dict[str, object]]:
    statement = "select message from {} order by msg_id"
    wait_until(
        lambda: connection.execute(f"select count(*) = 0 from pgmq.q_{side}_domain_events").fetchone() == (True,),
        "all is archived",
        60,
    )
    return [message for (message,) in connection.execute(statement.format(f"pgmq.a_{side}_domain_events"))]


def _read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _count(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def _distinct(path: Path) -> int:
    # A line that is being written has no end yet.
    return len({json.loads(line)["event_id"] for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")})


if __name__ == "__main__":
    where = Path(tempfile.mkdtemp(prefix="day-of-a-shop-"))
    outcome = play(int(os.environ.get("DAY_PAYMENTS", "300")), where)
    print(json.dumps(outcome.figures, indent=2))
    sides = (outcome.consumed, outcome.forwarded, *outcome.committed.values())
    complete = all(side.business() == outcome.expected for side in sides)
    print("every event is on every side" if complete else f"EVENTS ARE MISSING: {where}")
    pairs = ((outcome.consumed, "payments"), (outcome.forwarded, "exports"))
    ordered = all(side.in_order == outcome.committed[name].in_order for side, name in pairs)
    print("in the order of each workflow" if ordered else f"THE ORDER IS WRONG: {where}")
    repeated = {name: getattr(outcome, name).repeated for name in MOST_REPEATED}
    bounded = all(repeated[name] <= most for name, most in MOST_REPEATED.items())
    print("seen again no more often than may be" if bounded else f"SEEN AGAIN TOO OFTEN, {repeated}: {where}")
    troubled = outcome.figures["troubles"] == TROUBLES
    print("all went wrong that was to go wrong" if troubled else f"NOT ALL WENT WRONG THAT WAS TO: {where}")
    sys.exit(not (complete and ordered and bounded and troubled))
