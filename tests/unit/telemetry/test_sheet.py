"""A sheet: values by key, in memory, and in a file that another process reads."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from celery_tasker_events.telemetry import sheet as sheets
from celery_tasker_events.telemetry.sheet import DamagedSheet, Sheet, SheetFile, read_sheet

from .forks import Child

LONG = 30.0

PUBLISHED = ("event", "published", "payment.processed", "payments", "", "durable")
DEPTH = ("gauge", "depth", "command")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sheet"


@pytest.fixture
def sheet(path: Path) -> Sheet:
    sheet = Sheet(lambda: SheetFile(path))
    sheet.open()
    return sheet


def test_what_is_added_and_set_can_be_read_from_the_file(sheet: Sheet, path: Path) -> None:
    sheet.add(PUBLISHED)
    sheet.add(PUBLISHED, 300)
    sheet.add((*PUBLISHED[:-1], "broadcast"))
    sheet.set(DEPTH, 7)
    sheet.set(DEPTH, 3)

    values, _ = read_sheet(path)

    assert values == sheet.values() == {PUBLISHED: 301, (*PUBLISHED[:-1], "broadcast"): 1, DEPTH: 3}


def test_a_sheet_without_a_file_keeps_its_values(tmp_path: Path) -> None:
    sheet = Sheet()
    sheet.open()
    sheet.add(PUBLISHED)

    assert sheet.values() == {PUBLISHED: 1}
    assert list(tmp_path.iterdir()) == []


def test_no_file_is_made_before_it_is_opened_and_it_has_what_was_counted_before(path: Path) -> None:
    sheet = Sheet(lambda: SheetFile(path))
    sheet.add(PUBLISHED, 2)
    assert not path.exists()

    sheet.open()
    sheet.open()

    assert read_sheet(path)[0] == {PUBLISHED: 2}


def test_any_text_may_be_part_of_a_key(sheet: Sheet, path: Path) -> None:
    keys = [("event", "ä\n\0\"'€ 𝄞"), ("event", ""), ("event", "x" * 5000)]
    for number, key in enumerate(keys):
        sheet.add(key, number + 1)

    assert read_sheet(path)[0] == {key: number + 1 for number, key in enumerate(keys)}


def test_a_file_grows_with_its_rows(sheet: Sheet, path: Path) -> None:
    before = path.stat().st_size
    for number in range(1000):
        sheet.add(("event", str(number)), number)

    assert read_sheet(path)[0] == {("event", str(number)): number for number in range(1000)}
    assert path.stat().st_size > before


def test_threads_lose_no_count(sheet: Sheet, path: Path) -> None:
    def count(thread: int) -> None:
        for number in range(1000):
            sheet.add(PUBLISHED)
            sheet.add(("event", str(number)))
            sheet.add(("event", f"{thread} {number}"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))

    values = read_sheet(path)[0]
    assert values[PUBLISHED] == 4000
    assert sorted(values.values()) == [1] * 4000 + [4] * 1000 + [4000]


def test_a_reader_sees_whether_the_process_lives(path: Path) -> None:
    def work() -> None:
        sheet = Sheet(lambda: SheetFile(path))
        sheet.open()
        sheet.add(PUBLISHED)

    with Child(work, stays=True) as child:
        assert read_sheet(path) == ({PUBLISHED: 1}, True)
        child.kill()

    assert read_sheet(path) == ({PUBLISHED: 1}, False)


def test_a_child_leaves_its_parents_file_alone_whatever_the_parent_was_doing(sheet: Sheet, path: Path) -> None:
    sheet.add(PUBLISHED)

    def work() -> None:
        sheet.after_fork_in_child()
        sheet.add(PUBLISHED)
        assert sheet.values() == {PUBLISHED: 2}

    held, released = threading.Event(), threading.Event()

    def hold() -> None:
        with sheet._lock:
            held.set()
            released.wait(LONG)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(LONG)
    child = Child(work, stays=True)
    released.set()
    holder.join(LONG)
    with child:
        sheet.detach()

        # Neither does the child, which lives on, keep up the appearance that its parent does.
        assert read_sheet(path) == ({PUBLISHED: 1}, False)


def test_a_file_that_can_not_be_made_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sheet = Sheet(lambda: SheetFile(tmp_path / "missing" / "sheet"))

    for _ in range(3):
        sheet.open()
        sheet.add(PUBLISHED)

    assert sheet.values() == {PUBLISHED: 3}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "are missing in those of its worker" in caplog.text


def test_a_full_disk_costs_the_new_rows_only_and_is_told_once(path: Path) -> None:
    told = []

    def work() -> None:
        # The kernel refuses to let a file grow beyond this, as it does where a disk is full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, 16 * 1024))
        sheet = Sheet(lambda: SheetFile(path))
        sheet.open()
        sheet.add(PUBLISHED)
        sheets.logger.warning = lambda *args, **_: told.append(args)
        for number in range(1000):
            sheet.add(("event", str(number)))
        sheet.add(PUBLISHED)
        assert len(sheet.values()) == 1001
        assert len(told) == 1

    assert Child(work).end() == 0
    values = read_sheet(path)[0]
    assert values[PUBLISHED] == 2
    assert 100 < len(values) < 1001


def test_a_disk_without_any_room_costs_the_file(path: Path) -> None:
    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        sheet = Sheet(lambda: SheetFile(path))
        sheet.open()
        sheet.add(PUBLISHED)
        assert sheet.values() == {PUBLISHED: 1}

    assert Child(work).end() == 0
    assert list(path.parent.iterdir()) == []


def test_a_sheet_has_room_for_so_many_rows_and_no_more(
    sheet: Sheet, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheets, "_LARGEST_SIZE", 16 * 1024)

    for number in range(1000):
        sheet.add(("event", str(number)))

    assert path.stat().st_size == 16 * 1024
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == ["too many different events or subscribers"]


def _truncate(path: Path, size: int) -> Path:
    os.truncate(path, size)
    return path


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: _truncate(path, 0),
    "of one byte": lambda path: _truncate(path, 1),
    "of the header only": lambda path: _truncate(path, 16),
    "cut in a row": lambda path: _truncate(path, 60),
    "of zeros": lambda path: path.write_bytes(bytes(4096)),
    "text": lambda path: path.write_text("hello " * 1000),
    "a length that is too large": lambda path: _overwrite(path, 24, b"\xff" * 8),
    "a length of zero": lambda path: _overwrite(path, 24, bytes(8)),
    "a key that is none": lambda path: _overwrite(path, 32, b"{"),
    "an end in a row": lambda path: _overwrite(path, 8, (3).to_bytes(8, "little")),
}


def _overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_recognised(sheet: Sheet, path: Path, damage: str) -> None:
    sheet.add(PUBLISHED)
    sheet.add(DEPTH, 5)
    sheet.detach()

    DAMAGES[damage](path)

    with pytest.raises(DamagedSheet):
        read_sheet(path)


def test_a_file_that_grows_while_it_is_read_is_read_as_it_was(sheet: Sheet, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sheet.add(("event", "first"), 7)
    read = sheets._rows

    def grow_and_read(mapped: object, *arguments: object) -> object:
        for number in range(2000):
            sheet.add(("event", str(number)))
        return read(mapped, *arguments)

    monkeypatch.setattr(sheets, "_rows", grow_and_read)

    assert read_sheet(path)[0] == {("event", "first"): 7}
