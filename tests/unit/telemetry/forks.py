"""Real child processes, forked from the test's: for what several processes of a worker do at once."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable
from types import TracebackType


class Child:
    """A forked process that does some work and ends; with ``stays`` it then waits to be killed.

    As a context manager it is gone at the end of the block.
    """

    def __init__(self, work: Callable[[], object], *, stays: bool = False) -> None:
        done, self._done_in_child = os.pipe()
        self._done = done
        with warnings.catch_warnings():
            # From Python 3.12 on it warns that other threads, such as pytest's, do not exist in the child.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            self._run(work, stays=stays)
        os.close(self._done_in_child)

    def _run(self, work: Callable[[], object], *, stays: bool) -> None:
        code = 1
        # It ends in any case: a test that fails leaves nothing behind, and one that hangs fails.
        signal.alarm(60)
        try:
            work()
            os.write(self._done_in_child, b"x")
            code = 0
            while stays:
                signal.pause()
        finally:
            os._exit(code)  # nothing of the parent's, such as pytest, may go on here

    def wait_until_done(self) -> None:
        """Wait until the work is done."""
        assert os.read(self._done, 1) == b"x", "the child's work failed"

    def end(self) -> int:
        """Wait for the end of the process; return its exit code."""
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        os.close(self._done)
        return os.waitstatus_to_exitcode(status)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.end()

    def __enter__(self) -> Child:
        self.wait_until_done()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.pid:
            self.kill()
