"""Contestants in processes of their own, measured in turns: signal receivers are shared by all apps of a process."""

from __future__ import annotations

import multiprocessing
import random
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

from benchmarks.figures import Figure

__all__ = ["Arena", "Contestant", "Entry", "Measured", "Seat"]

# Forked off a process that has imported all and run nothing: as clean as a fresh interpreter, and there at once.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["benchmarks.work"])


class Contestant(Protocol):
    """Does one kind of work, many times. One that is not measured by :meth:`Arena.measure` needs ``close`` only."""

    def run(self, times: int) -> None:
        """The work itself, on the task's thread."""

    def settle(self) -> None:
        """Wait until all that it set off is done."""

    def close(self) -> None:
        """Leave nothing behind."""


#: Its name, what makes it, and with which arguments.
Entry = tuple[str, Callable[..., Any], Sequence[Any]]


class Measured(NamedTuple):
    """Seconds for each repetition.

    Attributes:
        thread: CPU of the task's thread.
        held: How long the task's thread was held up, waiting included.
        process: CPU of the whole process, until it has settled.
        elapsed: From the first repetition until it has settled.
    """

    thread: float
    held: float
    process: float
    elapsed: float


class Seat:
    """One contestant in its process. Start it with the others, then :meth:`wait_ready`."""

    def __init__(self, name: str, make: Callable[..., Any], arguments: Sequence[Any]) -> None:
        self.name = name
        self.taken: list[Measured] = []
        self._pipe, remote = _context.Pipe()
        self._process = _context.Process(target=_serve, args=(remote, make, tuple(arguments)), daemon=True)
        self._process.start()
        remote.close()

    def wait_ready(self) -> None:
        self.result()

    def begin(self, method: str, *arguments: Any) -> None:
        """Call a method of the contestant; :meth:`result` waits for what it returns."""
        self._pipe.send((method, arguments))

    def result(self) -> Any:
        try:
            trouble, value = self._pipe.recv()
        except EOFError:
            trouble, value = "its process has ended", None
        if trouble:
            raise RuntimeError(f"contestant {self.name!r}: {trouble}")
        return value

    def call(self, method: str, *arguments: Any) -> Any:
        self.begin(method, *arguments)
        return self.result()

    def measure(self, times: int) -> Measured:
        measured: Measured = self.call("", times)
        return measured

    def stop(self) -> None:
        if self._process.is_alive():
            self.call("close")
            self._pipe.close()
            self._process.join(30)


class Arena:
    """A context manager: its contestants' processes live inside the ``with`` block."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        self._stack = ExitStack()
        self.seats: list[Seat] = []

    def __enter__(self) -> Arena:
        for entry in self._entries:
            self.seats.append(Seat(*entry))
        for seat in self.seats:
            seat.wait_ready()
            self._stack.callback(seat.stop)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def turns(self, rounds: int) -> Iterator[Seat]:
        """Every contestant once a round, each round in another order."""
        for _ in range(rounds):
            yield from random.sample(self.seats, len(self.seats))

    def measure(self, times: int, rounds: int, slow: Collection[str] = (), *, less: int = 10) -> None:
        """Measure every contestant in turns; what comes before the first round is warming up.

        Args:
            slow: Names of those who do it that many times ``less``: figures are for one repetition anyhow.
        """
        repeated = {seat.name: max(1, times // less) if seat.name in slow else times for seat in self.seats}
        for seat in self.seats:
            seat.measure(max(1, repeated[seat.name] // 5))
        for seat in self.turns(rounds):
            seat.taken.append(seat.measure(repeated[seat.name]))

    def figures(self, which: str, scale: float = 1e6) -> list[Figure]:
        """One figure for each contestant: a field of :class:`Measured`, in seconds times ``scale``."""
        return [Figure(seat.name, [getattr(measured, which) * scale for measured in seat.taken]) for seat in self.seats]


def _serve(pipe: Connection, make: Callable[..., Any], arguments: Sequence[Any]) -> None:
    try:
        contestant = make(*arguments)
        pipe.send((None, None))
        while True:
            method, given = pipe.recv()
            pipe.send((None, getattr(contestant, method)(*given) if method else _measured(contestant, *given)))
    except EOFError:
        return
    except Exception:
        pipe.send((traceback.format_exc(), None))


def _measured(contestant: Contestant, times: int) -> Measured:
    elapsed, process, thread = time.perf_counter(), time.process_time(), time.thread_time()
    contestant.run(times)
    thread, held = time.thread_time() - thread, time.perf_counter() - elapsed
    contestant.settle()
    seconds = (thread, held, time.process_time() - process, time.perf_counter() - elapsed)
    return Measured(*(taken / times for taken in seconds))
