"""Calls subscribers on one thread, and waits there for what is ``async def``, no longer than it may take."""

from __future__ import annotations

import asyncio
import inspect
import selectors
import time
from collections.abc import Awaitable, Callable
from typing import Any

from celery_tasker_events.bus.subscriber import Steps
from celery_tasker_events.telemetry.log import logger

__all__ = ["GRACE", "Caller", "SubscriberTimeout"]

#: Seconds that a cancelled coroutine, and the hook that is told of it, may take to end.
GRACE = 1.0


class SubscriberTimeout(TimeoutError):
    """An ``async def`` took too long and was cancelled."""


class Caller:
    """Belongs to one thread, and has an event loop of its own from the first coroutine on."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def call(self, steps: Steps, deadline: float, before_waiting: Callable[[], None]) -> bool:
        """Take all steps of a call; return whether the event was handled, or raise what a step raised.

        Args:
            deadline: When what is awaited is cancelled, on the monotonic clock. A plain function is not interrupted.
            before_waiting: Called before a coroutine is waited for.

        Raises:
            SubscriberTimeout: if something was cancelled.
        """
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                step = steps.send(value) if error is None else steps.throw(error)
            except StopIteration as stop:
                return bool(stop.value)
            value, error = None, None
            try:
                value = self.result_of(step, deadline, before_waiting)
            except SubscriberTimeout as timed_out:
                error, deadline = timed_out, time.monotonic() + GRACE / 2
            except BaseException as raised:  # it is the subscriber's, and goes on in its own hooks
                error = raised

    def result_of(self, value: Any, deadline: float, before_waiting: Callable[[], None]) -> Any:
        """Return what a function has returned, or what it is waited for; the arguments are those of :meth:`call`."""
        if value is None or isinstance(value, bool) or not inspect.isawaitable(value):
            return value
        before_waiting()
        return self._wait(value, deadline - time.monotonic())

    def cancel(self) -> bool:
        """Cancel the coroutine that is waited for; return whether there is one. From any thread."""
        loop, task = self._loop, self._task
        if loop is None or task is None:
            return False
        try:
            loop.call_soon_threadsafe(task.cancel)
        except RuntimeError:  # the loop has been closed in this very moment
            return False
        return True

    def close(self) -> None:
        """Cancel what coroutines have left running, and close the loop; on the caller's own thread."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        try:
            loop.run_until_complete(asyncio.wait_for(_end(asyncio.all_tasks(loop)), GRACE))
        except BaseException as error:  # what is left is users' code, and it has had its chance
            logger.debug("What subscribers left running did not end well", exc_info=error)
        finally:
            loop.close()

    def _wait(self, awaitable: Awaitable[Any], timeout: float) -> Any:
        if self._loop is None:
            # Unlike epoll, poll keeps nothing in the kernel: a forked child that drops its copy does not harm this one.
            self._loop = asyncio.SelectorEventLoop(getattr(selectors, "PollSelector", selectors.SelectSelector)())
        loop = self._loop
        task = self._task = loop.create_task(_await(awaitable))
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            task.cancel()

        timer = loop.call_later(max(0.0, timeout), expire)
        try:
            value = loop.run_until_complete(task)
        except BaseException as error:
            if expired:
                raise SubscriberTimeout("cancelled after its timeout") from error
            raise
        finally:
            timer.cancel()
            self._task = None
        if expired:
            raise SubscriberTimeout("cancelled after its timeout")
        return value


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def _end(left: set[asyncio.Task[Any]]) -> None:
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
