"""A sheet of the board: one process' counts in a memory-mapped file, which others can read, also when it was killed."""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import orjson

from celery_tasker_events.telemetry.log import error_fields, logger

__all__ = ["GAUGE", "DamagedSheet", "Key", "Sheet", "SheetFile", "read_sheet"]

#: What tells a value from the others, from the general to the special.
Key = tuple[str, ...]

#: First part of the key of a value that means nothing any more when its process has ended.
GAUGE = "gauge"

# A file is an array of 8-byte cells: the magic number, the number of cells in use, then the rows. A row is the value, the
# length of its key in bytes, and the key as JSON, padded to whole cells.
_CELL = 8
_MAGIC = int.from_bytes(b"CTEsheet", sys.byteorder)
_HEADER_CELLS = 2
_FIRST_SIZE = 16 * 1024
_LARGEST_SIZE = 1024 * 1024


class DamagedSheet(ValueError):
    """A file of the board does not hold what it should."""


class NoRoom(Exception):
    """A sheet has as many rows as it may have."""


class Sheet:
    """Thread-safe values by key: in memory, and from :meth:`open` on in a file too.

    Args:
        make_file: Makes the file, when it is opened; None: there is none.
    """

    def __init__(self, make_file: Callable[[], SheetFile] | None = None) -> None:
        # Reentrant, for the garbage collector may interrupt it and publish an event: better miscounted than stuck.
        self._lock = threading.RLock()
        self._values: dict[Key, int] = {}
        self._make_file = make_file
        self._file: SheetFile | None = None

    def add(self, key: Key, amount: int = 1) -> None:
        with self._lock:
            value = self._values[key] = self._values.get(key, 0) + amount
            if self._file is not None:
                self._write(key, value)

    def set(self, key: Key, value: int) -> None:
        with self._lock:
            self._values[key] = value
            if self._file is not None:
                self._write(key, value)

    def values(self) -> dict[Key, int]:
        with self._lock:
            return dict(self._values)

    @property
    def is_in_file(self) -> bool:
        return self._file is not None

    def give_file(self, make_file: Callable[[], SheetFile]) -> None:
        """There is to be a file, after all."""
        self._make_file = make_file

    def open(self) -> None:
        """Write the values into a file as well, from now on, if there is to be one.

        Not to be called on a task's thread: it may wait for the disk. If it fails, that is logged once, and they stay in
        memory.
        """
        if self._make_file is None:
            return
        with self._lock:
            make_file, self._make_file = self._make_file, None
        if make_file is None:
            return
        try:
            file = make_file()
        except OSError as error:
            _tell_absent(error)
            return
        with self._lock:
            self._file = file
            for key, value in self._values.items():
                self._write(key, value)

    def detach(self) -> None:
        """Leave the file as it is, and stay in memory from now on."""
        with self._lock:
            self._make_file = None
            file, self._file = self._file, None
        if file is not None:
            file.close()

    def after_fork_in_child(self) -> None:
        """Never write into the parent's file, nor keep it locked when the parent has ended."""
        self._lock = threading.RLock()
        self.detach()

    def _write(self, key: Key, value: int) -> None:
        assert self._file is not None
        try:
            self._file.write(key, value)
        except (OSError, NoRoom) as error:
            self._file.is_full = True
            _tell_absent(error)


def _tell_absent(error: Exception) -> None:
    logger.warning(
        "The counts of process %d are missing in those of its worker, all or in part: %s: %s",
        os.getpid(),
        type(error).__name__,
        error,
        extra=error_fields(error),
    )


class SheetFile:
    """The file of one sheet. It is locked for as long as its process lives: that is how others know.

    Args:
        path: It is replaced. It appears there complete and locked.

    Raises:
        OSError: if it can't be made.
    """

    def __init__(self, path: Path) -> None:
        self.is_full = False
        self._positions: dict[Key, int] = {}
        self._mapped: mmap.mmap
        self._cells: memoryview[int]
        new = path.with_name(f".new-{path.name}")
        self._descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._map(0, _FIRST_SIZE)
            self._cells[0], self._cells[1] = _MAGIC, _HEADER_CELLS
            new.rename(path)
        except OSError:
            os.close(self._descriptor)
            new.unlink(missing_ok=True)
            raise

    def write(self, key: Key, value: int) -> None:
        """Write the value of a key; of a new one not, if the file ``is_full``.

        Raises:
            OSError: if the file can't grow.
            NoRoom: if it may not.
        """
        position = self._positions.get(key)
        if position is None:
            if self.is_full:
                return
            position = self._append(key)
        # One aligned store of 8 bytes: no reader, and no SIGKILL, sees half of it.
        self._cells[position] = value

    def close(self) -> None:
        self._cells.release()
        self._mapped.close()
        os.close(self._descriptor)

    def _append(self, key: Key) -> int:
        name = orjson.dumps(key)
        position = self._cells[1]
        end = position + 2 + -(-len(name) // _CELL)
        while end > len(self._cells):
            size = len(self._mapped)
            if size >= _LARGEST_SIZE:
                raise NoRoom("too many different events or subscribers")
            self._map(size, 2 * size)
        start = (position + 2) * _CELL
        self._cells[position + 1] = len(name)
        self._mapped[start : start + len(name)] = name
        # The row counts from now on: a reader sees all of it or nothing.
        self._cells[1] = end
        self._positions[key] = position
        return position

    def _map(self, old_size: int, size: int) -> None:
        # Written, not only stretched: to touch a page for which a full disk has no room would end the process.
        blank = bytes(size - old_size)
        written = 0
        while written < len(blank):
            written += os.pwrite(self._descriptor, blank[written:], old_size + written)
        mapped = mmap.mmap(self._descriptor, size)
        if old_size:
            self._cells.release()
            self._mapped.close()
        self._mapped = mapped
        self._cells = memoryview(mapped).cast("Q")


def read_sheet(path: Path) -> tuple[dict[Key, int], bool]:
    """Return the values of a sheet, and whether its process lives.

    Raises:
        DamagedSheet: if the file is no whole sheet.
        OSError: if it can't be read; FileNotFoundError if it is gone.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        is_alive = not _lock(descriptor)
        # Before it is mapped, as it may grow at any moment: so far it reaches in any case.
        end = int.from_bytes(os.pread(descriptor, _CELL, _CELL), sys.byteorder)
        try:
            with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as mapped:
                return dict(_rows(mapped, end)), is_alive
        except ValueError as error:
            raise DamagedSheet(f"{path.name}: {error}") from error
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _rows(mapped: mmap.mmap, end: int) -> list[tuple[Key, int]]:
    whole = len(mapped) // _CELL
    rows = []
    with memoryview(mapped) as view, view[: whole * _CELL].cast("Q") as cells:
        if whole < _HEADER_CELLS or cells[0] != _MAGIC:
            raise ValueError("it does not begin as a sheet")
        position = _HEADER_CELLS
        if not _HEADER_CELLS <= end <= whole:
            raise ValueError("it is shorter than it says")
        while position < end:
            start = position + 2
            length = cells[position + 1] if start < end else 0
            following = start + -(-length // _CELL)
            if length == 0 or following > end:
                raise ValueError("a row does not end where it should")
            rows.append((_key(mapped[start * _CELL : start * _CELL + length]), cells[position]))
            position = following
    return rows


def _key(name: bytes) -> Key:
    key = orjson.loads(name)
    if not isinstance(key, list) or not all(isinstance(part, str) for part in key):
        raise ValueError("the key of a row is none")
    return tuple(key)
