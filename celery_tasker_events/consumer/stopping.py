"""Stopping: SIGTERM and SIGINT end a consumer that runs in the main thread; what they did before is restored after it."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["SLICE", "stopped_by_signals", "wait_interruptibly"]

#: Seconds after which a waiting main thread looks whether a signal has come: one that the system hands to another thread
#: of the process does not wake it.
SLICE = 0.5

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def stopped_by_signals(stop: Callable[[], None], abandon: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` at the first signal and ``abandon`` at the next; does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    count = 0

    def receive(_number: int, _frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        # Not in the signal handler itself: it interrupts this thread anywhere, also while it holds a lock.
        threading.Thread(target=stop if count == 1 else abandon, daemon=True).start()

    before = {number: signal.signal(number, receive) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait_interruptibly(event: threading.Event, timeout: float | None = None) -> bool:
    """Wait as ``event.wait`` does, in a thread that receives signals."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while deadline is None or time.monotonic() < deadline:
        if event.wait(SLICE if deadline is None else min(SLICE, max(0.0, deadline - time.monotonic()))):
            return True
    return event.is_set()
