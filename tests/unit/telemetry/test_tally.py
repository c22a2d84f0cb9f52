"""Where a process counts: alone, or on the board of its worker; and the sums in the words of telemetry."""

from __future__ import annotations

from pathlib import Path

import pytest

from celery_tasker_events.telemetry import board as boards
from celery_tasker_events.telemetry.board import Board, Reading
from celery_tasker_events.telemetry.counters import Counters, Series
from celery_tasker_events.telemetry.gauge import ConnectionState, Gauge
from celery_tasker_events.telemetry.sheet import Sheet
from celery_tasker_events.telemetry.tally import Tally
from celery_tasker_events.telemetry.totals import CONNECTION, DEPTH, EventSeries, Totals

from .forks import Child


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(boards, "PLACES", (str(tmp_path),))
    return tmp_path


def count(sheet: Sheet) -> None:
    """What one process with every kind of trouble counts."""
    counters = Counters(sheet)
    counters.add("published", "a.b", "shop", "durable")
    counters.add("published", "a.b", "shop", "broadcast", mode="broadcast")
    counters.add("dispatched", "a.b", "shop", mode="broadcast", amount=2)
    counters.add("failed", "a.b", "shop", "schema", mode="durable")
    counters.add("dropped", "a.b", "shop", "stream lagged")
    counters.add_call("shop.hear", "handled")
    counters.add_call("shop.hear", "failed")
    Gauge(sheet, DEPTH, "durable", read=lambda: 4).update()
    Gauge(sheet, CONNECTION, read=lambda: ConnectionState.DOWN).update()


def times(number: int) -> tuple[object, object]:
    return {
        EventSeries("published", "a.b", "shop", "durable", ""): number,
        EventSeries("published", "a.b", "shop", "broadcast", ""): number,
        EventSeries("dispatched", "a.b", "shop", "broadcast", ""): 2 * number,
        EventSeries("failed", "a.b", "shop", "durable", "schema"): number,
        EventSeries("dropped", "a.b", "shop", "", "stream lagged"): number,
    }, {("shop.hear", "handled"): number, ("shop.hear", "failed"): number}


def alive(totals: Totals) -> tuple[int, int, dict[str, int]]:
    connections = {state.name.lower(): count for state, count in totals.connections.items() if count}
    return totals.processes, totals.depths["durable"], connections


def test_outside_a_worker_a_process_counts_alone_and_makes_no_file(place: Path) -> None:
    tally = Tally()
    count(tally.sheet)
    tally.sheet.open()

    totals = tally.totals()

    assert (totals.events, totals.calls) == times(1)
    assert alive(totals) == (1, 4, {"down": 1})
    assert totals.is_complete is False
    assert list(place.iterdir()) == []


def test_a_worker_sums_up_its_processes_with_what_the_main_one_counted_before(place: Path) -> None:
    tally = Tally()
    count(tally.sheet)
    tally.open_board()

    def work() -> None:
        tally.after_fork_in_child()
        assert tally.sheet.values() == {}
        count(tally.sheet)
        tally.sheet.open()

    with Child(work, stays=True) as child:
        totals = tally.totals()
        assert (totals.events, totals.calls) == times(2)
        assert alive(totals) == (2, 8, {"down": 2})
        assert totals.is_complete is True
        child.kill()

    totals = tally.totals()
    assert (totals.events, totals.calls) == times(2)
    assert alive(totals) == (1, 4, {"down": 1})
    tally.remove_board()


def test_a_worker_that_has_counted_nothing_has_no_process_to_tell_of(place: Path) -> None:
    tally = Tally()
    tally.open_board()

    totals = tally.totals()

    assert (totals.events, totals.calls) == ({}, {})
    assert totals.processes == 0
    assert totals.depths == {"command": 0, "durable": 0, "broadcast": 0}
    tally.remove_board()


def test_the_main_process_alone_removes_the_board_and_counts_on(place: Path) -> None:
    tally = Tally()
    tally.open_board()
    count(tally.sheet)

    def work() -> None:
        tally.after_fork_in_child()
        tally.remove_board()

    assert Child(work).end() == 0
    assert len(list(place.iterdir())) == 1

    tally.remove_board()
    assert list(place.iterdir()) == []
    count(tally.sheet)
    assert (tally.totals().events, tally.totals().calls) == times(2)
    tally.remove_board()


def test_sums_that_are_read_while_the_worker_ends_are_never_those_of_some_processes(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tally = Tally()
    tally.open_board()
    count(tally.sheet)
    read = Board.read

    def remove_and_read(board: Board) -> Reading:
        tally.remove_board()
        return read(board)

    monkeypatch.setattr(Board, "read", remove_and_read)

    totals = tally.totals()

    assert (totals.is_complete, totals.events) == (False, times(1)[0])


def test_a_child_that_begins_to_count_when_the_worker_has_ended_is_no_worse_off(place: Path) -> None:
    tally = Tally()
    tally.open_board()
    [folder] = place.iterdir()

    def work() -> None:
        tally.after_fork_in_child()
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        tally.sheet.open()
        count(tally.sheet)
        assert len(tally.sheet.values()) == 9

    assert Child(work).end() == 0


def test_two_workers_of_one_process_after_each_other_each_have_a_board(place: Path) -> None:
    tally = Tally()
    for _ in range(2):
        tally.open_board()
        tally.open_board()
        assert len(list(place.iterdir())) == 1
        assert tally.totals().is_complete
        tally.remove_board()
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("trouble", ["no place", "no room"])
def test_without_a_place_or_room_every_process_counts_for_itself_and_that_is_told_once(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    if trouble == "no place":
        monkeypatch.setattr(boards, "PLACES", (str(place / "missing"),))
    else:
        monkeypatch.setattr(boards, "_SHEETS", "no such folder/")
    tally = Tally()

    tally.open_board()
    count(tally.sheet)

    def work() -> None:
        tally.after_fork_in_child()
        tally.sheet.open()
        count(tally.sheet)

    assert Child(work).end() == 0
    assert (tally.totals().events, tally.totals().calls) == times(1)
    assert tally.totals().is_complete is False
    assert list(place.iterdir()) == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_counters_tell_the_process_itself_no_modes() -> None:
    counters = Counters()
    counters.add("failed", "a.b", "shop", "schema", mode="durable")
    counters.add("failed", "a.b", "shop", "schema", mode="broadcast")
    counters.add_call("shop.hear", "handled")

    assert counters.snapshot() == {Series("failed", "a.b", "shop", "schema"): 2}
