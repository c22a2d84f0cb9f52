"""Where a run keeps its files: a stable folder of this user, so that what a killed run has left behind is found again."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

# Short: the path of a Unix socket may have about a hundred characters, and Postgres puts one into this folder.
PREFIX = "celery-tasker-events-example-"


class Home:
    """The files of a run.

    Attributes:
        postgres: Data of the embedded Postgres, kept from run to run.
        run: All else; empty when a run begins, so that nothing of an earlier one can get in its way.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = folder / "postgres"
        self.run = folder / "run"
        self.broker = self.run / "broker"
        self.results = self.run / "results"
        self.spool = self.run / "spool"
        self.counts = self.run / "counts.jsonl"
        self.worker_log = self.run / "worker.log"
        self._worker = folder / "worker.json"

    def prepare(self) -> None:
        """Kill the worker of a run that was killed, and begin with empty folders."""
        self._kill_former_worker()
        if self.run.exists():
            shutil.rmtree(self.run)
        for folder in (self.broker, self.results):
            folder.mkdir(parents=True)
        self.counts.touch()

    def remember_worker(self, pid: int) -> None:
        """Note the worker for a later run, should this one be killed; with its time of birth, as pids are used again."""
        self._worker.write_text(json.dumps({"pid": pid, "born": psutil.Process(pid).create_time()}))

    def forget_worker(self) -> None:
        self._worker.unlink(missing_ok=True)

    def _kill_former_worker(self) -> None:
        with suppress(OSError, ValueError, psutil.NoSuchProcess):
            former = json.loads(self._worker.read_text())
            if abs(psutil.Process(former["pid"]).create_time() - former["born"]) < 5:
                # The worker leads a process group, which its children belong to.
                os.killpg(former["pid"], signal.SIGKILL)
        self.forget_worker()


@contextmanager
def open_home() -> Iterator[Home]:
    """This user's folder; while another run has it, a private one that is deleted in the end."""
    with _locked(Path(tempfile.gettempdir()) / f"{PREFIX}{os.getuid()}") as folder:
        if folder is not None:
            home = Home(folder)
            home.prepare()
            yield home
            return
    private = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getuid()}-"))
    try:
        home = Home(private)
        home.prepare()
        yield home
    finally:
        shutil.rmtree(private, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[Path | None]:
    """The folder, locked until the block ends or the process does; None if it can't be had."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        # Anyone may have put it there: everybody can write to the folder for temporary files.
        yield None
        return
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield folder
