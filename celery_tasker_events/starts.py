"""Whether to be told when steps begin: only where that is needed, as Celery leaves the signal out where nobody listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import celery

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["Starts", "StartsPlugin"]

#: Since then ``task_success`` tells how long the task ran.
_TELLS_RUNTIME = celery.VERSION >= (5, 7)


class StartsPlugin(Protocol):
    """What this needs of the plugin."""

    app: Celery

    def needs_starts(self) -> bool: ...


class Starts:
    """Heeds the starts of steps until it turns out that nothing needs them, and again from the moment on in which something does.

    A start tells how long a step ran where Celery does not, and is when what flows from a step to an eager one inside of it
    does so. To listen is half of what a task without events pays.

    Args:
        connect: Connects the receiver of ``task_prerun``.
        disconnect: Disconnects it.
    """

    def __init__(self, connect: Callable[[], None], disconnect: Callable[[], None]) -> None:
        self._connect = connect
        self._disconnect = disconnect
        self._connect()
        self.are_heeded = True
        #: Whether it is still to be found out if they are needed.
        self.are_in_question = _TELLS_RUNTIME

    def heed(self) -> None:
        """Heed them for good."""
        self.are_in_question = False
        if not self.are_heeded:
            self.are_heeded = True
            self._connect()

    def review(self, plugin: StartsPlugin, task: Any) -> None:
        """Ignore them if nothing needs them, now that a task has ended.

        What runs steps eagerly needs them; and a worker's main process, in which no task ends, leaves it to its children.
        """
        if getattr(task, "app", None) is not plugin.app or task.request.is_eager:
            return
        self.are_in_question = False
        if not plugin.needs_starts():
            self._disconnect()
            self.are_heeded = False
            if plugin.needs_starts():  # another thread has come to need them meanwhile
                self.heed()
