"""Shows how far a long run is, on a terminal and with ``rich`` (the extra ``[cli]``); else nothing, and output stays clean."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["shown_progress"]

#: Seconds that a run may take before it is worth a bar.
PATIENCE = 0.3


@contextlib.contextmanager
def shown_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that is told what is being done, how much of it is, and how much there is; for the ``with`` block."""
    bar = _bar()
    if bar is None:
        yield lambda what, done, total: None
        return
    began = time.monotonic()
    task = bar.add_task("", total=None)

    def tell(what: str, done: int, total: int) -> None:
        if time.monotonic() - began > PATIENCE:
            bar.start()
            bar.update(task, description=what, completed=done, total=total)

    try:
        yield tell
    finally:
        bar.stop()


def _bar() -> Progress | None:
    if not sys.stderr.isatty():
        return None
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
    except ImportError:
        return None
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
