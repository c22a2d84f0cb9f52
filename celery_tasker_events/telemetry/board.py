"""The board of one worker: a folder in which each of its processes keeps its sheet, and the sums over all of them.

The main process makes the folder before it forks the first child, and removes it at its end. What a killed worker left
behind is removed by the next one that starts. Sheets of processes that have ended are folded into one file, so that any
number of recycled children leaves no more than that.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import orjson

from celery_tasker_events.telemetry.log import error_fields, logger
from celery_tasker_events.telemetry.sheet import GAUGE, DamagedSheet, Key, Sheet, SheetFile, read_sheet

__all__ = ["PLACES", "Board", "Reading"]

#: Where the folder is made: in memory where the system offers it, so that no count ever waits for a disk.
PLACES: tuple[str, ...] = ("/dev/shm", tempfile.gettempdir())  # noqa: S108  # the folder in it is made by mkdtemp

#: Nobody else's folder may begin so: what is found abandoned under it is removed.
_PREFIX = "celery-tasker-events-board-"
_SHEETS = "process-"
_FOLDED = "folded.json"

#: A reading begins again if sheets were folded meanwhile; they are when a process begins to count.
_ATTEMPTS = 100


class Reading(NamedTuple):
    """What the processes of a worker have counted.

    Attributes:
        counts: Sums over all processes that there ever were.
        gauges: The momentary values of each process that lives and has written anything.
    """

    counts: Mapping[Key, int]
    gauges: tuple[Mapping[Key, int], ...]

    @classmethod
    def of_one(cls, values: Mapping[Key, int]) -> Reading:
        """The reading of this process alone."""
        return cls(_counts(values), (_gauges(values),) if values else ())


class Board:
    """The folder. Made in the worker's main process; the children inherit the object.

    Raises:
        OSError: if the folder can't be made anywhere.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._told_damaged: set[str] = set()
        self.folder, lock = _make_folder()
        # At the latest when nobody knows the board any more, or at the process' end.
        self._remove = weakref.finalize(self, _remove, self.folder, lock, self._pid)
        _remove_abandoned_folders()

    def new_sheet(self) -> Sheet:
        """Return a sheet for the process that calls this; its file is made when it is opened."""
        return Sheet(self.make_file)

    @property
    def is_of_this_process(self) -> bool:
        """Whether this process made the folder, and not one that it was forked from."""
        return os.getpid() == self._pid

    def remove(self) -> None:
        """Remove the folder, if this process has made it."""
        self._remove()

    def read(self) -> Reading:
        """Sum up all sheets. It waits for nobody, and no process waits for it.

        Raises:
            OSError: if the folder can't be read.
        """
        for _ in range(_ATTEMPTS):
            before = self._folded_text()
            reading = self._read(self._folded(before))
            # What was folded between the two looks may be missing, or be in both places.
            if self._folded_text() == before:
                return reading
        raise BlockingIOError(f"the counts in {self.folder} did not keep still for a moment")

    def fold(self) -> None:
        """Put the sheets of processes that have ended together in one file. Interrupted anywhere, no count is lost or doubled.

        If another process is doing so, it is left to it.

        Raises:
            OSError: if the file can't be written; then the sheets stay.
        """
        with self._folding() as is_mine:
            if not is_mine:
                return
            folded = self._folded(self._folded_text())
            # Whoever was interrupted here before did not come to remove what it had folded.
            self._unlink(folded.absorbed)
            dead = {name: values for name, values, is_alive in self._sheets(()) if not is_alive}
            if dead:
                counts = Counter(dict(folded.counts))
                for values in dead.values():
                    counts.update(_counts(values))
                new = self.folder / f".new-{_FOLDED}"
                new.write_bytes(_Folded(counts, tuple(dead)).text())
                # From this instant on the sheets do not count any more: the file that says so has their counts.
                new.replace(self.folder / _FOLDED)
                self._unlink(dead)

    def make_file(self) -> SheetFile:
        """Make the file of this process' sheet.

        Raises:
            OSError: if it can't be made.
        """
        file = SheetFile(self.folder / f"{_SHEETS}{os.getpid()}-{secrets.token_hex(8)}")
        # A process begins when another has ended, or is one more: the right time to clear up.
        try:
            self.fold()
        except OSError as error:
            logger.warning("Counts of ended processes stay where they are: %s", error, extra=error_fields(error))
        return file

    def _read(self, folded: _Folded) -> Reading:
        counts = Counter(dict(folded.counts))
        gauges = []
        for _, values, is_alive in self._sheets(folded.absorbed):
            counts.update(_counts(values))
            if is_alive and values:
                gauges.append(_gauges(values))
        return Reading(counts, tuple(gauges))

    def _sheets(self, absorbed: Iterable[str]) -> Iterator[tuple[str, dict[Key, int], bool]]:
        left_out = set(absorbed)
        for name in self._names():
            if name in left_out:
                continue
            try:
                yield name, *read_sheet(self.folder / name)
            except FileNotFoundError:  # it has been folded meanwhile
                pass
            except (OSError, DamagedSheet) as error:
                self._tell_damaged(name, error)

    def _names(self) -> list[str]:
        try:
            return [path.name for path in self.folder.iterdir() if path.name.startswith(_SHEETS)]
        except FileNotFoundError:  # the worker has ended
            return []

    def _folded_text(self) -> bytes:
        try:
            return (self.folder / _FOLDED).read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            self._tell_damaged(_FOLDED, error)
            return b""

    def _folded(self, text: bytes) -> _Folded:
        try:
            return _Folded.of(text)
        except (ValueError, LookupError, TypeError) as error:
            self._tell_damaged(_FOLDED, error)
            return _Folded()

    def _unlink(self, names: Iterable[str]) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def _tell_damaged(self, name: str, error: Exception) -> None:
        if name not in self._told_damaged:
            self._told_damaged.add(name)
            logger.warning("Counts of a process can't be read and are left out: %s: %s", name, error, extra=error_fields(error))

    @contextlib.contextmanager
    def _folding(self) -> Iterator[bool]:
        descriptor = os.open(self.folder / "fold.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield _try_lock(descriptor)
        finally:
            os.close(descriptor)


class _Folded(NamedTuple):
    """What the file of folded sheets holds: their sums, and the names of those that may not be removed yet."""

    counts: Mapping[Key, int] = {}
    absorbed: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: bytes) -> _Folded:
        if not text:
            return cls()
        content = orjson.loads(text)
        return cls({tuple(key): int(count) for *key, count in content["counts"]}, tuple(map(str, content["absorbed"])))

    def text(self) -> bytes:
        return orjson.dumps({"counts": [[*key, count] for key, count in self.counts.items()], "absorbed": self.absorbed})


def _counts(values: Mapping[Key, int]) -> dict[Key, int]:
    return {key: value for key, value in values.items() if key[0] != GAUGE}


def _gauges(values: Mapping[Key, int]) -> dict[Key, int]:
    return {key: value for key, value in values.items() if key[0] == GAUGE}


def _make_folder() -> tuple[Path, int]:
    """Make a folder in the first place that has room; return it and a descriptor that keeps it locked."""
    trouble = OSError("there is no place for it")
    for place in PLACES:
        try:
            while True:
                folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
                # Another worker that starts may take it for abandoned before it is locked, and remove it.
                with contextlib.suppress(FileNotFoundError):
                    descriptor = os.open(folder, os.O_RDONLY)
                    if _try_lock(descriptor) and folder.exists():
                        return folder, descriptor
                    os.close(descriptor)
        except OSError as error:
            trouble = error
    raise trouble


def _remove(folder: Path, lock: int, pid: int) -> None:
    # Not in a child that has inherited the board.
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _remove_abandoned_folders() -> None:
    for place in PLACES:
        for folder in Path(place).glob(f"{_PREFIX}*"):
            try:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except OSError:  # somebody else's, or removed meanwhile
                continue
            try:
                # Every process of a worker that lives holds the lock.
                if os.fstat(descriptor).st_uid == os.geteuid() and _try_lock(descriptor):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
