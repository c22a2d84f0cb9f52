"""The board: sums over the sheets of many processes, exact while they write, end, are killed and are folded."""

from __future__ import annotations

import gc
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import pytest

from celery_tasker_events.telemetry import board as boards
from celery_tasker_events.telemetry.board import Board
from celery_tasker_events.telemetry.sheet import Key, Sheet

from .forks import Child

PUBLISHED = ("event", "published", "payment.processed", "payments", "", "durable")
FAILED = ("event", "failed", "payment.processed", "payments", "schema", "durable")
DEPTH = ("gauge", "depth", "command")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(boards, "PLACES", (str(tmp_path),))
    return tmp_path


@pytest.fixture
def board(place: Path) -> Iterator[Board]:
    board = Board()
    yield board
    board.remove()


def write(board: Board, values: dict[Key, int]) -> Sheet:
    sheet = board.new_sheet()
    sheet.open()
    for key, value in values.items():
        sheet.set(key, value)
    return sheet


def sheets(board: Board) -> list[str]:
    return sorted(path.name for path in board.folder.glob("process-*"))


def end_process(board: Board, values: dict[Key, int]) -> None:
    """Let a process count and end."""
    assert Child(lambda: write(board, values)).end() == 0


def test_a_new_board_has_nothing_on_it(board: Board) -> None:
    assert board.read() == ({}, ())


def test_the_folder_is_for_its_owner_only(board: Board) -> None:
    assert board.folder.stat().st_mode & 0o777 == 0o700


def test_counts_are_summed_over_all_processes_and_gauges_told_for_each_that_lives(board: Board) -> None:
    end_process(board, {PUBLISHED: 1, FAILED: 3, DEPTH: 9})
    write(board, {PUBLISHED: 10, DEPTH: 1})
    with Child(lambda: write(board, {PUBLISHED: 100, DEPTH: 2}), stays=True):
        counts, gauges = board.read()

    assert counts == {PUBLISHED: 111, FAILED: 3}
    assert sorted(values[DEPTH] for values in gauges) == [1, 2]


def test_a_killed_process_keeps_what_it_counted_up_to_that_instant(board: Board) -> None:
    with Child(lambda: write(board, {PUBLISHED: 12345}), stays=True) as child:
        child.kill()

    assert board.read() == ({PUBLISHED: 12345}, ())


def test_a_thousand_ended_processes_are_one_file_and_their_sums(board: Board) -> None:
    for _ in range(1000):
        write(board, {PUBLISHED: 1, FAILED: 2, DEPTH: 3}).detach()

    assert len(sheets(board)) == 1
    assert board.read() == ({PUBLISHED: 1000, FAILED: 2000}, ())


def test_a_sheet_appears_complete(board: Board, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    write_blank, seen = os.pwrite, []

    def fold_first(*arguments: Any) -> int:
        # As another process may do in this very moment.
        board.fold()
        seen.append(board.read())
        return write_blank(*arguments)

    monkeypatch.setattr(os, "pwrite", fold_first)
    write(board, {PUBLISHED: 1})

    assert seen == [({}, ())]
    assert board.read().counts == {PUBLISHED: 1}
    assert caplog.records == []


def test_folding_changes_no_sum(board: Board) -> None:
    end_process(board, {PUBLISHED: 1, DEPTH: 7})
    end_process(board, {PUBLISHED: 2, FAILED: 4})
    before = board.read()

    for _ in range(3):
        board.fold()

        assert board.read() == before == ({PUBLISHED: 3, FAILED: 4}, ())
    assert sheets(board) == []


def test_many_processes_count_at_once_while_others_read_and_fold(board: Board) -> None:
    """The sums only grow, and end up exact: nothing is ever lost or counted twice, not even for a moment."""
    rounds, amount = 12, 200

    def count() -> None:
        sheet = board.new_sheet()
        sheet.open()
        for number in range(amount):
            sheet.add(PUBLISHED)
            sheet.add(("event", str(number)))

    def fold() -> None:
        while True:
            board.fold()

    def read() -> None:
        last: Counter[Key] = Counter()
        while not (board.folder / "done").exists():
            counts = Counter(dict(board.read().counts))
            assert last <= counts
            last = counts

    folders = [Child(fold), Child(fold)]
    readers = [Child(read), Child(read)]
    for _ in range(rounds):
        for child in [Child(count) for _ in range(4)]:
            assert child.end() == 0
    (board.folder / "done").touch()
    exit_codes = [reader.end() for reader in readers]
    for folder in folders:
        folder.kill()
    assert exit_codes == [0, 0]
    board.fold()

    number = 4 * rounds
    assert board.read() == ({PUBLISHED: number * amount, **{("event", str(key)): number for key in range(amount)}}, ())
    assert sheets(board) == []


def die(*_: object, **__: object) -> NoReturn:
    os._exit(99)


def at_the_new_file(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Path, "write_bytes", die)


def before_it_counts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Path, "replace", die)


def before_the_first_sheet_goes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Path, "unlink", die)


def before_the_second_sheet_goes(patch: pytest.MonkeyPatch) -> None:
    unlink = Path.unlink

    def unlink_one(path: Path, missing_ok: bool) -> None:
        unlink(path, missing_ok)
        patch.setattr(Path, "unlink", die)

    patch.setattr(Path, "unlink", unlink_one)


@pytest.mark.parametrize("stop", [at_the_new_file, before_it_counts, before_the_first_sheet_goes, before_the_second_sheet_goes])
def test_folding_that_is_killed_anywhere_loses_and_doubles_nothing(
    board: Board, stop: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    board.folder.joinpath("folded.json").write_text(json.dumps({"counts": [[*PUBLISHED, 1]], "absorbed": []}))
    # As they are when several children end together: none of them has cleared up after the others.
    three = [write(board, {PUBLISHED: 10}) for _ in range(3)]
    for sheet in three:
        sheet.detach()

    def fold_half() -> None:
        stop(monkeypatch)
        board.fold()

    assert Child(fold_half).end() == 99

    assert board.read() == ({PUBLISHED: 31}, ())
    board.fold()
    assert board.read() == ({PUBLISHED: 31}, ())
    end_process(board, {PUBLISHED: 100})
    board.fold()
    assert board.read() == ({PUBLISHED: 131}, ())
    assert sheets(board) == []


def test_whoever_finds_another_at_folding_leaves_it_to_that(board: Board) -> None:
    end_process(board, {PUBLISHED: 1})

    def hold() -> None:
        stack.enter_context(board._folding())

    with ExitStack() as stack, Child(hold, stays=True):
        board.fold()
        assert len(sheets(board)) == 1
        assert board.read() == ({PUBLISHED: 1}, ())

    board.fold()
    assert sheets(board) == []


def test_a_damaged_sheet_is_left_out_and_told_once(board: Board, caplog: pytest.LogCaptureFixture) -> None:
    write(board, {PUBLISHED: 1})
    [damaged] = sheets(board)
    os.truncate(board.folder / damaged, 0)
    write(board, {PUBLISHED: 10}).detach()

    for _ in range(3):
        board.fold()
        assert board.read() == ({PUBLISHED: 10}, ())

    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert told[0].startswith(f"Counts of a process can't be read and are left out: {damaged}: ")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"counts": 1, "absorbed": []}', '{"counts": [["a"]], "absorbed": [1]}'])
def test_a_damaged_file_of_folded_sheets_costs_their_counts_only(board: Board, text: str) -> None:
    end_process(board, {PUBLISHED: 1})
    board.fold()
    write(board, {PUBLISHED: 10})

    (board.folder / "folded.json").write_text(text)

    assert board.read().counts == {PUBLISHED: 10}
    end_process(board, {PUBLISHED: 100})
    board.fold()
    assert board.read().counts == {PUBLISHED: 110}


def test_sheets_stay_where_there_is_no_room_to_fold_them(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    end_process(board, {PUBLISHED: 1})
    # A folder in its place: it can't be written.
    (board.folder / ".new-folded.json").mkdir()

    with pytest.raises(OSError, match="new-folded"):
        board.fold()

    assert board.read() == ({PUBLISHED: 1}, ())
    # A process that begins to count is told, and counts all the same.
    write(board, {PUBLISHED: 10})
    assert board.read().counts == {PUBLISHED: 11}


def test_a_board_that_is_gone_is_read_as_empty(board: Board) -> None:
    write(board, {PUBLISHED: 1})
    for path in board.folder.iterdir():
        path.unlink()
    board.folder.rmdir()

    assert board.read() == ({}, ())


def test_a_board_that_nobody_knows_any_more_removes_its_folder(place: Path) -> None:
    def work() -> None:
        boards_known.clear()

    boards_known = [Board()]
    assert Child(work).end() == 0
    assert len(list(place.iterdir())) == 1

    boards_known.clear()
    gc.collect()

    assert list(place.iterdir()) == []


def test_only_the_process_that_made_it_has_it(board: Board) -> None:
    def work() -> None:
        assert not board.is_of_this_process

    assert board.is_of_this_process
    assert Child(work).end() == 0


def test_a_new_board_removes_those_of_workers_that_were_killed_and_no_others(place: Path) -> None:
    made = []

    def make() -> None:
        made.append(Board())
        write(made[-1], {PUBLISHED: 1})

    with Child(make, stays=True) as killed:
        killed.kill()
    [left] = place.iterdir()
    with Child(make, stays=True):
        # The one that lives has removed it.
        [alive] = place.iterdir()
        assert alive != left
        # Such as a spool, where the user has no folder of his own.
        other = place / "celery-tasker-events-0"
        other.mkdir()

        board = Board()

        assert set(place.iterdir()) == {alive, other, board.folder}
        board.remove()


def test_a_worker_lives_as_long_as_one_of_its_processes(place: Path) -> None:
    made = []

    def work() -> None:
        made.append(Board())
        # Its child goes on for as long as the pipe to the test is open.
        if os.fork() == 0:
            os.close(write_end)
            os.read(read_end, 1)
            os._exit(0)

    read_end, write_end = os.pipe()
    assert Child(work).end() == 0
    [alive] = place.iterdir()

    Board().remove()
    assert list(place.iterdir()) == [alive]

    os.close(write_end)
    os.close(read_end)


def test_workers_that_start_at_once_do_not_take_each_other_for_dead(place: Path) -> None:
    def make() -> None:
        boards_made = [Board() for _ in range(25)]
        assert all(board.folder.exists() for board in boards_made)

    for child in [Child(make) for _ in range(4)]:
        assert child.end() == 0


def test_the_next_place_is_taken_where_the_first_one_can_not_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "PLACES", (str(tmp_path / "missing"), str(tmp_path)))

    board = Board()

    assert board.folder.parent == tmp_path
    board.remove()
    monkeypatch.setattr(boards, "PLACES", (str(tmp_path / "missing"),))
    with pytest.raises(OSError, match="missing"):
        Board()
