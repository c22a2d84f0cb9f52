"""Owner: how a process that has events in the spool shows the others that it lives, by a file that it keeps locked."""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
import weakref
from pathlib import Path

__all__ = ["Owner", "is_alive"]


class Owner:
    """The claim of one process on its rows. The lock goes with the process, however it ends.

    Args:
        folder: That of the spool.
    """

    def __init__(self, folder: Path) -> None:
        self.name = uuid.uuid4().hex
        self._path = _path(folder, self.name)
        self._descriptor: int | None = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _locked.add(self)

    def release(self) -> None:
        """Give the claim up: whoever comes next may adopt the rows."""
        self._path.unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None


def is_alive(folder: Path, name: str) -> bool:
    """Return whether a process keeps that owner's file locked; the file of a dead one is removed."""
    path = _path(folder, name)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        path.unlink(missing_ok=True)
        return False
    finally:
        os.close(descriptor)


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.owner"


_locked: weakref.WeakSet[Owner] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # The lock belongs to all who have the file open: a child that kept it would keep its dead parent alive.
    for owner in list(_locked):
        owner._close()


os.register_at_fork(after_in_child=_after_fork_in_child)
