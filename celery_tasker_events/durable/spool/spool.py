"""Spool: durable events of this host's processes, on disk, in order; each process sends its own, and a dead one's are adopted."""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from celery_tasker_events.durable.spool import sql
from celery_tasker_events.durable.spool.owner import Owner, is_alive
from celery_tasker_events.errors import SpoolFull, SpoolUnusable
from celery_tasker_events.forking import ForkLock
from celery_tasker_events.telemetry.log import logger

__all__ = ["Added", "Kind", "Spool", "SpoolRow", "SpooledEvent", "StoredRow", "WhenFull", "reading"]

#: Seconds that SQLite waits for another process that writes.
BUSY_TIMEOUT = 5.0

#: A file that has grown beyond this many bytes gives its space back when it is empty.
WORTH_SHRINKING = 16 * 1024 * 1024


class NewerFormat(Exception):
    """The file is of a newer version of this package."""

    def __init__(self, found: int) -> None:
        super().__init__(
            f"its format is {found}, and this version of the package knows {sql.FORMAT}: upgrade the package to the newest"
            " version that has run on this host, or name another folder in tasker_events_spool_dir"
        )


class Kind(enum.IntEnum):
    """What a row holds: a message that is ready for Postgres, or an outcome whose events are not made yet."""

    MESSAGE = 0
    OUTCOME = 1


class WhenFull(enum.Enum):
    """Which events are dropped when the spool has no room."""

    DROP_NEWEST = "drop_newest"
    DROP_OLDEST = "drop_oldest"


class SpoolRow(NamedTuple):
    """One event on its way into the spool."""

    event_name: str
    namespace: str
    content: bytes


class StoredRow(NamedTuple):
    """One event in the spool; a later one has a greater id."""

    id: int
    event_name: str
    namespace: str
    content: bytes


class SpooledEvent(NamedTuple):
    """What the spool knows of an event without reading it."""

    event_name: str
    namespace: str


class Added(NamedTuple):
    """What adding rows did.

    Attributes:
        ids: Of the new rows, in their order.
        dropped: What had to make room for them.
    """

    ids: list[int]
    dropped: list[SpooledEvent]


class Spool:
    """One file, shared by all processes of this host that publish to the same database. Threads may share this object.

    Nothing is opened before the first call that needs the file.

    Args:
        path: The SQLite file; its folder is made if it is missing, and must be nobody else's.
        max_bytes: How many bytes of events the file may hold, those of other processes included.
    """

    def __init__(self, path: Path, max_bytes: int, when_full: WhenFull = WhenFull.DROP_NEWEST) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._when_full = when_full
        # A child that is forked in the middle of it would find SQLite's own locks held for ever.
        self._lock = ForkLock()
        self._connection: sqlite3.Connection | None = None
        self._owner: Owner | None = None

    def open(self) -> None:
        """Open the file now, so that the first event that must be saved in a hurry finds it open.

        Raises:
            SpoolUnusable: saying why.
        """
        with self._using():
            pass

    def add(self, rows: Sequence[SpoolRow], kind: Kind = Kind.MESSAGE, *, first: bool = False) -> Added:
        """Add rows in one transaction.

        Args:
            first: Before all that is there, not behind it.

        Raises:
            SpoolFull: if they do not fit; none of them is added.
            SpoolUnusable: if the disk or the file is at fault; none of them is added.
        """
        with self._using() as connection:
            owner = self._own()
            with _transaction(connection):
                dropped = self._make_room(connection, sum(len(row.content) for row in rows))
                start = connection.execute(sql.BEFORE_ALL).fetchone()[0] - len(rows) if first else None
                now = time.time()
                ids = []
                for position, row in enumerate(rows):
                    row_id = None if start is None else start + position
                    added = connection.execute(sql.ADD, (row_id, owner, kind, *row, len(row.content), now))
                    ids.append(added.lastrowid or 0)
            return Added(ids, dropped)

    def oldest(
        self, limit: int, max_bytes: int | None = None, kind: Kind = Kind.MESSAGE, *, without: Collection[int] = ()
    ) -> list[StoredRow]:
        """Return this process' oldest rows: at most ``limit``, and at least one even if it is larger than ``max_bytes``.

        Args:
            without: Rows that are left out.
        """
        with self._using() as connection:
            if self._owner is None:
                return []
            rows: list[StoredRow] = []
            size = 0
            found = connection.execute(sql.OLDEST, (self._owner.name, kind, limit + len(without)))
            for row in map(StoredRow._make, found):
                if row.id in without:
                    continue
                size += len(row.content)
                if rows and max_bytes is not None and size > max_bytes:
                    break
                rows.append(row)
            return rows

    def remove(self, ids: Collection[int]) -> None:
        """Forget rows that are in a safe place now."""
        with self._using() as connection:
            with _transaction(connection):
                connection.executemany(sql.REMOVE, [(row_id,) for row_id in ids])
            self._shrink_if_empty(connection)

    def count(self, kind: Kind) -> int:
        """How many rows of that kind this process has."""
        if self._owner is None:
            return 0
        with self._using() as connection:
            return int(connection.execute(sql.COUNT_OF, (self._owner.name, kind)).fetchone()[0])

    def has_orphans(self) -> bool:
        """Return whether a process that has died left anything; no file is made for it.

        Raises:
            SpoolUnusable: if the file can't be read.
        """
        with reading(self.path) as connection:
            return connection is not None and bool(self._orphans(connection))

    def adopt(self) -> bool:
        """Take over the rows of processes that have died; return whether there were any.

        No file is made for it.
        """
        if not self.path.exists():
            return False
        with self._using() as connection:
            orphans = self._orphans(connection)
            if not orphans:
                return False
            owner = self._own()
            return sum(connection.execute(sql.ADOPT, (owner, name)).rowcount for name in orphans) > 0

    def close(self) -> None:
        """Close the file; whoever comes next may adopt what is left."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if self._owner is not None:
                self._owner.release()
                self._owner = None

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = _open(self.path)
                yield self._connection
            except sqlite3.DatabaseError as error:
                raise SpoolUnusable(str(self.path), error) from error
            except OSError as error:
                raise SpoolUnusable(str(self.path), error) from error

    def _own(self) -> str:
        if self._owner is None:
            self._owner = Owner(self.path.parent)
        return self._owner.name

    def _orphans(self, connection: sqlite3.Connection) -> list[str]:
        return [name for (name,) in connection.execute(sql.OWNERS) if not self._is_alive(name)]

    def _is_alive(self, name: str) -> bool:
        return (self._owner is not None and self._owner.name == name) or is_alive(self.path.parent, name)

    def _make_room(self, connection: sqlite3.Connection, wanted: int) -> list[SpooledEvent]:
        excess = connection.execute(sql.BYTES).fetchone()[0] + wanted - self._max_bytes
        if excess <= 0:
            return []
        if self._when_full is WhenFull.DROP_NEWEST or wanted > self._max_bytes:
            raise SpoolFull(str(self.path), self._max_bytes)
        dropped = []
        while excess > 0:
            for row_id, event_name, namespace, size in connection.execute(sql.ALL_OLDEST, (100,)).fetchall():
                if excess <= 0:
                    break
                connection.execute(sql.REMOVE, (row_id,))
                excess -= size
                dropped.append(SpooledEvent(event_name, namespace))
        return dropped

    def _shrink_if_empty(self, connection: sqlite3.Connection) -> None:
        events, _, _ = connection.execute(sql.TOTALS).fetchone()
        if events == 0 and self.path.stat().st_size > WORTH_SHRINKING:
            # Another process that is just writing makes this fail; it or the next one will do it.
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute("vacuum")
                connection.execute("pragma wal_checkpoint(truncate)")


def _connect(path: Path, timeout: float = BUSY_TIMEOUT) -> sqlite3.Connection:
    """Open an SQLite file that is there already, in autocommit.

    Args:
        timeout: Seconds to wait where another process has locked it.
    """
    return sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)


@contextlib.contextmanager
def reading(path: Path, timeout: float = BUSY_TIMEOUT) -> Iterator[sqlite3.Connection | None]:
    """Read a file for commands and looks: None if there is none, for none is made.

    Raises:
        SpoolUnusable: if it can't be read.
    """
    if not path.exists():
        yield None
        return
    try:
        with contextlib.closing(_connect(path, timeout)) as connection:
            _check_format(path, connection)
            yield connection
    except sqlite3.DatabaseError as error:
        raise SpoolUnusable(str(path), error) from error


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("begin immediate")
    with connection:  # commits, or rolls back what SQLite has not rolled back by itself, as it does on a full disk
        yield


def _open(path: Path) -> sqlite3.Connection:
    _make_private(path.parent)
    # SQLite refuses to switch a new file to its write-ahead log while another process does so: one after the other.
    with (path.parent / f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _make(path)
        try:
            return _prepared(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            # No database, or a damaged one: it is kept for whoever can read it, and events need a place now.
            _set_aside(path)
            _make(path)
            return _prepared(path)
        finally:
            # To close it is not enough: a child that was forked meanwhile has it open, too.
            fcntl.flock(lock, fcntl.LOCK_UN)


def _set_aside(path: Path) -> None:
    stamp = time.time_ns()
    # Its log goes with it: SQLite would take it for the new file's.
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(name).rename(path.with_name(f"{name}.damaged-{stamp}"))
    logger.warning("The spool %s is damaged: it is kept as %s.damaged-%d, and a new one is used", path, path.name, stamp)


def _make(path: Path) -> None:
    """Make the file under another name first: who finds it under its own finds it whole."""
    half_made = path.with_name(f"{path.name}.new")
    half_made.unlink(missing_ok=True)
    half_made.touch(mode=0o600)
    _prepared(half_made).close()
    half_made.rename(path)


def _prepared(path: Path) -> sqlite3.Connection:
    connection = _connect(path)
    try:
        _check_format(path, connection)
        for pragma in sql.PRAGMAS:
            connection.execute(pragma)
        connection.executescript(sql.SCHEMA)
        connection.execute(sql.SET_FORMAT)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_format(path: Path, connection: sqlite3.Connection) -> None:
    (found,) = connection.execute(sql.FORMAT_FOUND).fetchone()
    if found > sql.FORMAT:
        raise SpoolUnusable(str(path), NewerFormat(found))


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
        # In a shared folder such as /tmp another user may have made it first, to read or to change what is put there.
        raise PermissionError(f"{folder} belongs to another user or can be written by others: chmod 700 it, or name another")
