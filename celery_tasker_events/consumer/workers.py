"""Workers: the threads that handle events, and the event loop on which coroutines run."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable
from typing import Any

from celery_tasker_events.consumer.engine import Engine
from celery_tasker_events.consumer.handling import Handling, Interrupted
from celery_tasker_events.telemetry.log import logger

__all__ = ["Coroutines", "start_workers"]


def start_workers(engine: Engine, handling: Handling, count: int) -> None:
    """Start daemon threads that handle messages until the engine hands out no more."""
    for number in range(1, count + 1):
        threading.Thread(target=_work, args=(engine, handling), name=f"tasker-events-handler-{number}", daemon=True).start()


def _work(engine: Engine, handling: Handling) -> None:
    while (message := engine.take()) is not None:
        engine.settle(handling.handle(message))


class Coroutines:
    """Runs coroutines on one event loop: that of the caller, or one on a thread of its own, made when it is first needed."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._cancelling = False

    def wait(self, awaitable: Awaitable[Any]) -> Any:
        """Run it to its end, and return its result or raise its error; from a worker's thread.

        Raises:
            Interrupted: if it was cancelled by :meth:`cancel`.
        """
        with self._lock:
            loop = self._loop or self._start_loop()
        try:
            return asyncio.run_coroutine_threadsafe(self._run(awaitable), loop).result()
        except concurrent.futures.CancelledError:
            if self._cancelling:
                raise Interrupted from None
            raise

    def cancel(self) -> None:
        """Cancel what is running, and what comes."""
        self._cancelling = True
        for task in list(self._tasks):
            task.get_loop().call_soon_threadsafe(task.cancel)

    def close(self) -> None:
        """End the loop, if it is one of its own, with what handlers have left running on it."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(1)

    async def _run(self, awaitable: Awaitable[Any]) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self._cancelling:
                task.cancel()
            return await awaitable
        finally:
            self._tasks.discard(task)

    def _start_loop(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_run_loop, args=(self._loop,), name="tasker-events-loop", daemon=True)
        self._thread.start()
        return self._loop


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.wait_for(asyncio.gather(*left, return_exceptions=True), 1))
        loop.run_until_complete(loop.shutdown_asyncgens())
    except BaseException as error:  # what is left is users' code, and it has had its chance
        logger.debug("What handlers left running did not end well", exc_info=error)
    finally:
        loop.close()
