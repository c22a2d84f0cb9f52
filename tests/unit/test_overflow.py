"""What the channel has no room for waits on disk, behind what was there before it, and nothing durable is dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from worker_process import wait_until

from celery_tasker_events import values
from celery_tasker_events.binding import BoundEvent
from celery_tasker_events.dispatcher import Dispatcher
from celery_tasker_events.durable.confirmation import Confirmation
from celery_tasker_events.durable.spool.spool import Kind, Spool, SpoolRow, WhenFull
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.overflow import Overflow
from celery_tasker_events.pipeline import Publication
from celery_tasker_events.record import EventReference
from celery_tasker_events.telemetry.counters import Counters, Series

from .making import RecordingDurable, make_bound, make_outcome

LONG = 30.0

BOUND = {name: make_bound(name, delivery_mode=mode) for name, mode in (("a.durable", "durable"), ("a.fast", "fast"))}


def publication(number: int, *names: str, confirmation: Confirmation | None = None) -> Publication:
    bound = tuple(BOUND[name] for name in names or ("a.durable",))
    return Publication(make_outcome(step_uuid=str(number)), bound, confirmation=confirmation)


class Bench:
    """A dispatcher with a channel of three places and an overflow, whose publishing waits at a gate."""

    def __init__(self, spool: Spool, buffer_size: int = 1000) -> None:
        self.published: list[str | None] = []
        self.confirmations: list[Confirmation | None] = []
        self.entered, self.gate = threading.Event(), threading.Event()
        self.counters, self.durable = Counters(), RecordingDurable()
        self.depths: list[int] = []
        self.dispatcher = Dispatcher(
            self.publish,
            3,
            self.counters,
            log_dropped=True,
            on_depth=lambda: self.depths.append(self.dispatcher.channel_depth()),
        )
        self.overflow = Overflow(
            spool, buffer_size, self.find, self.durable, self.dispatcher.wake, self.dispatcher.drop, self.dispatcher.drop_stored
        )
        self.dispatcher.set_overflow(self.overflow)

    def publish(self, item: Publication) -> None:
        self.entered.set()
        assert self.gate.wait(LONG)
        self.published.append(item.outcome.step_uuid)
        self.confirmations.append(item.confirmation)

    def find(self, reference: EventReference) -> BoundEvent:
        if reference.event_name not in BOUND:
            raise ConfigurationError("not declared any more")
        return BOUND[reference.event_name]

    def fill(self) -> None:
        """Four are accepted: one is being published, three are in the channel."""
        assert self.dispatcher.put(publication(0))
        assert self.entered.wait(LONG)
        assert all(self.dispatcher.put(publication(number)) for number in (1, 2, 3))


NewBench = Callable[..., Bench]


@pytest.fixture
def new_bench(tmp_path: Path) -> Iterator[NewBench]:
    made: list[tuple[Bench, Spool]] = []

    def create(max_bytes: int = 10_000_000, when_full: WhenFull = WhenFull.DROP_NEWEST, **options: Any) -> Bench:
        spool = Spool(tmp_path / "state" / "shop.sqlite3", max_bytes, when_full)
        made.append((Bench(spool, **options), spool))
        return made[-1][0]

    yield create
    for bench, spool in made:
        bench.gate.set()
        bench.dispatcher.close(5)
        spool.close()


@pytest.fixture
def bench(new_bench: NewBench) -> Bench:
    return new_bench()


def test_what_does_not_fit_comes_back_in_order(bench: Bench) -> None:
    bench.fill()
    assert all(bench.dispatcher.put(publication(number)) for number in range(4, 500))
    assert bench.dispatcher.depth() == 499

    bench.gate.set()
    assert bench.dispatcher.drain(LONG)

    assert bench.published == [str(number) for number in range(500)]
    assert bench.counters.snapshot() == {}


def test_later_ones_wait_behind_it_even_if_the_channel_has_room_again(bench: Bench) -> None:
    bench.fill()
    for number in range(4, 300):
        bench.dispatcher.put(publication(number))
    bench.gate.set()
    for number in range(300, 400):
        bench.dispatcher.put(publication(number))
    assert bench.dispatcher.drain(LONG)

    assert bench.published == [str(number) for number in range(400)]


def test_when_nothing_waits_there_any_more_the_channel_is_used_again(bench: Bench) -> None:
    bench.fill()
    bench.dispatcher.put(publication(4))
    bench.gate.set()
    assert bench.dispatcher.drain(LONG)
    assert not bench.overflow.is_used

    bench.dispatcher.put(publication(5))
    assert bench.dispatcher.drain(LONG)

    assert bench.published[-1] == "5"
    assert bench.overflow.depth() == 0


def test_fast_events_that_do_not_fit_are_dropped_and_counted(bench: Bench) -> None:
    bench.fill()

    assert bench.dispatcher.put(publication(4, "a.durable", "a.fast"))
    assert not bench.dispatcher.put(publication(5, "a.fast"))
    bench.gate.set()
    assert bench.dispatcher.drain(LONG)

    assert bench.published == ["0", "1", "2", "3", "4"]
    assert bench.counters.snapshot() == {Series("dropped", "a.fast", "payments", "channel full"): 2}


def test_putting_never_waits_for_the_disk_and_the_memory_before_it_is_bounded(new_bench: NewBench) -> None:
    bench = new_bench(buffer_size=10)
    bench.fill()
    with bench.overflow._spool._lock:  # the disk hangs
        accepted = sum(bench.dispatcher.put(publication(number)) for number in range(4, 1000))
    bench.gate.set()
    assert bench.dispatcher.drain(LONG)

    assert 10 <= accepted <= 10 + 200
    assert bench.counters.total("dropped") == 996 - accepted
    assert len(bench.published) == 4 + accepted


def test_a_full_spool_drops_and_counts(new_bench: NewBench) -> None:
    bench = new_bench(max_bytes=1)
    bench.fill()

    bench.dispatcher.put(publication(4))

    wait_until(lambda: bench.counters.total("dropped") == 1, "the one that has no room is dropped")
    bench.gate.set()
    assert bench.dispatcher.drain(LONG)
    assert bench.published == ["0", "1", "2", "3"]
    assert not bench.overflow.is_used


def test_who_waits_for_an_event_on_disk_is_told_in_the_end(bench: Bench) -> None:
    confirmation = Confirmation(1)
    bench.fill()
    bench.dispatcher.put(publication(4, confirmation=confirmation))
    bench.gate.set()
    assert bench.dispatcher.drain(LONG)

    assert bench.confirmations[-1] is confirmation


def test_saving_puts_all_that_waits_on_disk_at_once(bench: Bench) -> None:
    bench.fill()
    bench.dispatcher.put(publication(4))

    bench.dispatcher.save()

    assert len(bench.overflow._spool.oldest(100, kind=Kind.OUTCOME)) == 4
    bench.gate.set()
    assert bench.dispatcher.drain(LONG)
    assert bench.published == ["0", "1", "2", "3", "4"]


def test_saving_keeps_fast_events_where_they_are(bench: Bench) -> None:
    bench.fill()
    bench.dispatcher._buffer_size = 10
    bench.dispatcher.put(publication(4, "a.durable", "a.fast"))

    bench.dispatcher.save()
    bench.gate.set()
    assert bench.dispatcher.drain(LONG)

    assert sorted(map(str, bench.published)) == ["0", "1", "2", "3", "4", "4"]
    assert bench.counters.total("dropped") == 0


@pytest.mark.parametrize("waiting", ["a.durable", "a.fast"])
def test_what_saving_tells_of_the_channel_is_not_left_told_when_nothing_waits(bench: Bench, waiting: str) -> None:
    assert bench.dispatcher.put(publication(0))
    assert bench.entered.wait(LONG)
    assert bench.dispatcher.put(publication(1, waiting))

    bench.dispatcher.save()
    assert bench.depths[-1] > 0
    bench.gate.set()
    assert bench.dispatcher.drain(LONG)

    assert bench.depths[-1] == 0


def test_where_the_disk_can_not_be_used_saving_leaves_all_in_memory(new_bench: NewBench) -> None:
    bench = new_bench(max_bytes=1)
    bench.fill()

    bench.dispatcher.save()
    bench.gate.set()
    assert bench.dispatcher.drain(LONG)

    assert bench.published == ["0", "1", "2", "3"]


def test_an_event_that_is_not_declared_any_more_becomes_a_dead_letter(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench.fill()
    bench.dispatcher.put(publication(4))
    wait_until(lambda: bench.overflow._on_disk == 1, "it is on disk")
    monkeypatch.delitem(BOUND, "a.durable")
    bench.gate.set()
    assert bench.dispatcher.drain(LONG)

    (letter,) = bench.durable.dead_letters
    assert (letter["event_name"], letter["failed_stage"], letter["error"]["error"]) == (
        "a.durable",
        "spool",
        "not declared any more",
    )
    assert values.decode(letter["payload_text"]) is None
    assert "is not declared any more" in caplog.text


def test_no_disk_that_hangs_while_it_is_read_holds_up_a_put(bench: Bench) -> None:
    bench.fill()
    bench.dispatcher.put(publication(4))
    wait_until(lambda: bench.overflow._on_disk == 1, "it is on disk")
    asked, release = threading.Event(), threading.Event()
    oldest = bench.overflow._spool.oldest

    def hang(*arguments: Any, **options: Any) -> Any:
        asked.set()
        assert release.wait(LONG)
        return oldest(*arguments, **options)

    bench.overflow._spool.oldest = hang
    bench.gate.set()
    assert asked.wait(LONG)

    putting = threading.Thread(target=bench.dispatcher.put, args=[publication(5)])
    putting.start()
    putting.join(LONG)
    assert not putting.is_alive(), "the task's thread waits for the disk"
    release.set()
    assert bench.dispatcher.drain(LONG)
    assert bench.published == ["0", "1", "2", "3", "4", "5"]


def test_a_row_that_can_not_be_read_holds_up_nothing(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.fill()
    bench.dispatcher.put(publication(4))
    wait_until(lambda: bench.overflow._on_disk == 1, "it is on disk")
    bench.overflow._spool.add([SpoolRow("a.durable", "payments", b"{}")], Kind.OUTCOME, first=True)
    bench.overflow.adopt()
    bench.gate.set()
    assert bench.dispatcher.drain(LONG)

    assert bench.published == ["0", "1", "2", "3", "4"]
    assert bench.counters.snapshot() == {Series("dropped", "a.durable", "payments", "unreadable in the spool"): 1}
    assert bench.overflow._spool.oldest(10, kind=Kind.OUTCOME) == []
    assert "can't be read, and is dropped" in caplog.text


def test_what_makes_room_for_newer_outcomes_is_counted(new_bench: NewBench) -> None:
    bench = new_bench(max_bytes=4000, when_full=WhenFull.DROP_OLDEST)
    bench.fill()
    for number in range(4, 50):
        bench.dispatcher.put(publication(number))
        wait_until(lambda: not bench.overflow._waiting and not bench.overflow._writing, "it is written")

    kept = len(bench.overflow._spool.oldest(100, kind=Kind.OUTCOME))
    assert 0 < kept < 46
    assert bench.overflow.depth() == kept
    assert bench.counters.snapshot() == {Series("dropped", "a.durable", "payments", "spool full"): 46 - kept}


def test_what_does_not_come_back_before_the_end_stays_on_disk(bench: Bench) -> None:
    bench.fill()
    for number in range(4, 30):
        bench.dispatcher.put(publication(number))
    wait_until(lambda: bench.overflow._on_disk == 26, "they are on disk")

    assert not bench.dispatcher.close(0)
    bench.gate.set()
    assert bench.dispatcher._thread is not None
    bench.dispatcher._thread.join(LONG)

    assert len(bench.published) < 30
    assert len(bench.overflow._spool.oldest(100, kind=Kind.OUTCOME)) >= 30 - len(bench.published)
