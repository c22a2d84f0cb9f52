"""The writer between memory and disk, with a Postgres that is told when to work: what the real ones can't be made to do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from worker_process import wait_until

from celery_tasker_events.durable import writer as writer_module
from celery_tasker_events.durable.committing import Unavailable
from celery_tasker_events.durable.confirmation import Confirmation
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.durable.spool.spool import Spool, SpoolRow
from celery_tasker_events.durable.writer import DurableWriter
from celery_tasker_events.errors import SpoolUnusable
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.gauge import ConnectionState

LONG = 30.0


def message(number: int, confirmation: Confirmation | None = None) -> DurableMessage:
    fields = {"event_name": "number.noted", "event_id": str(number), "namespace": "numbers"}
    return DurableMessage("numbers_domain_events", str(number).encode(), b"{}", fields, confirmation=confirmation)


class Postgres:
    """Stands for the committer: takes batches while it is up."""

    def __init__(self) -> None:
        self.up = True
        self.rests = True
        self.taken: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def commit(self, batch: Sequence[DurableMessage]) -> None:
        self.rests = False
        assert self.gate.wait(LONG)
        if not self.up:
            raise Unavailable(0, ConnectionError("it is down"))
        self.taken += [int(item.body) for item in batch]
        for item in batch:
            if item.confirmation is not None:
                item.confirmation.settle(kept=True)

    def prepare(self) -> None:
        """Nothing to make."""

    def rest(self) -> None:
        self.rests = True

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "FIRST_BACKOFF", 0.001)
    monkeypatch.setattr(writer_module, "LAST_BACKOFF", 0.01)


@pytest.fixture
def postgres() -> Postgres:
    return Postgres()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "state" / "shop.sqlite3", 10_000_000)
    yield spool
    spool.close()


@pytest.fixture
def new_writer(postgres: Postgres, spool: Spool) -> Iterator[Callable[..., DurableWriter]]:
    writers: list[DurableWriter] = []

    def create(buffer_size: int = 1000, counters: Counters | None = None) -> DurableWriter:
        writer = DurableWriter(_no_pool, buffer_size, counters or Counters(), log_dropped=True, spool=spool)
        writer._committer = postgres
        writers.append(writer)
        return writer

    yield create
    postgres.up = True
    postgres.gate.set()
    for writer in writers:
        writer.close(5)


def _no_pool() -> Any:
    raise AssertionError("not asked for here")


def test_messages_before_in_and_after_an_outage_keep_their_order(postgres: Postgres, new_writer: Any) -> None:
    writer = new_writer()
    for number in range(300):
        postgres.up = number % 100 < 50
        writer.send(message(number))
    postgres.up = True

    assert writer.drain(LONG)
    assert postgres.taken == list(range(300))


def test_the_connection_is_let_go_when_nothing_waits_at_a_look(postgres: Postgres, new_writer: Any) -> None:
    writer = new_writer()
    postgres.gate.clear()
    writer.send(message(0))
    assert writer.watch() is not None
    postgres.gate.set()
    assert writer.drain(LONG)
    assert not postgres.rests

    assert writer.watch() is None

    wait_until(lambda: postgres.rests, "it is let go")


def test_the_connection_is_let_go_when_the_disk_is_empty(postgres: Postgres, new_writer: Any) -> None:
    writer = new_writer()
    postgres.up = False
    writer.send(message(0))
    wait_until(lambda: writer.connection is ConnectionState.DOWN, "it waits on disk")
    postgres.up = True
    assert writer.drain(LONG)

    wait_until(lambda: postgres.rests, "it is let go, and nobody looked")


def test_more_than_the_memory_holds_goes_to_disk(postgres: Postgres, new_writer: Any, spool: Spool) -> None:
    counters = Counters()
    writer = new_writer(buffer_size=10, counters=counters)
    postgres.gate.clear()
    for number in range(100):
        writer.send(message(number))

    assert len(writer._waiting) < 10
    assert writer.depth() == 100
    postgres.gate.set()
    assert writer.drain(LONG)
    assert postgres.taken == list(range(100))
    assert counters.total("dropped") == 0
    assert counters.total("spooled") >= 90


def test_a_commit_that_returns_after_all_is_not_repeated(postgres: Postgres, new_writer: Any) -> None:
    writer = new_writer()
    postgres.gate.clear()
    writer.send(message(0))
    wait_until(lambda: writer._in_flight, "it is in flight")
    writer.send(message(1))

    writer.save()
    postgres.gate.set()

    assert writer.drain(LONG)
    assert postgres.taken == [0, 1]


def test_what_can_not_be_removed_from_a_full_disk_is_not_published_twice(
    postgres: Postgres, new_writer: Any, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = new_writer()
    postgres.up = False
    for number in range(20):
        writer.send(message(number))
    wait_until(lambda: writer._is_spooling, "they wait on disk")

    def refuse(ids: object) -> None:
        raise SpoolUnusable("the spool", OSError("no space left on device"))

    with monkeypatch.context() as full:
        full.setattr(spool, "remove", refuse)
        postgres.up = True
        assert writer.drain(LONG)
        writer.send(message(20))
        assert writer.drain(LONG)
    postgres.up = False
    writer.send(message(21))
    wait_until(lambda: writer._is_spooling, "the next outage begins")
    postgres.up = True
    assert writer.drain(LONG)

    assert postgres.taken == list(range(22))
    assert spool.oldest(100) == []


def test_who_waits_for_a_message_on_disk_is_told_of_its_commit(postgres: Postgres, new_writer: Any) -> None:
    writer = new_writer()
    postgres.up = False
    confirmation = Confirmation(1)
    writer.send(message(0, confirmation))
    wait_until(lambda: writer._is_spooling, "it waits on disk")
    assert not confirmation.wait(0)

    postgres.up = True

    assert confirmation.wait(LONG)


def test_closing_does_not_wait_for_a_postgres_that_is_away(postgres: Postgres, new_writer: Any, spool: Spool) -> None:
    writer = new_writer()
    postgres.up = False
    writer.send(message(0))
    wait_until(lambda: writer._is_down, "the outage is noticed")

    assert writer.close(LONG) is False

    assert not writer._thread.is_alive()
    heir = Spool(spool.path, 10_000_000)
    assert heir.adopt()
    assert len(heir.oldest(10)) == 1
    heir.close()


def test_nothing_of_a_living_process_is_taken(postgres: Postgres, new_writer: Any, spool: Spool) -> None:
    other = Spool(spool.path, 10_000_000)
    other.add([message(7).to_row()])
    writer = new_writer()

    writer.send(message(0))
    assert writer.drain(LONG)

    assert postgres.taken == [0]
    other.close()
    writer.start()
    wait_until(lambda: postgres.taken == [0, 7], "it is taken once its process has ended")


def test_an_error_that_nobody_thought_of_ends_neither_the_thread_nor_an_event(
    postgres: Postgres, new_writer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    writer = new_writer()
    commit, failures = postgres.commit, iter([RuntimeError("a bug")] * 2)

    def fail_twice(batch: Sequence[DurableMessage]) -> None:
        for error in failures:
            raise error
        commit(batch)

    postgres.commit = fail_twice
    for number in range(10):
        writer.send(message(number))

    assert writer.drain(LONG)
    assert postgres.taken == list(range(10))
    assert caplog.text.count("The writer failed") == 2


def test_a_row_that_can_not_be_read_holds_up_nothing(
    postgres: Postgres, new_writer: Any, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    other = Spool(spool.path, 10_000_000)
    bad = SpoolRow("number.noted", "numbers", b"{}")
    other.add([message(1).to_row(), *[bad] * 1200, message(2).to_row()])
    other.close()
    counters = Counters()

    new_writer(counters=counters).start()

    wait_until(lambda: postgres.taken == [1, 2], "what can be read is published")
    wait_until(lambda: spool.oldest(10) == [], "nothing is left")
    assert counters.total("dropped") == 1200
    assert "can't be read, and is dropped" in caplog.text
