"""A program for tests that publishes outside of any worker, and ends in the way that its argument names.

It prints the id of every event that was accepted, one a line.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from celery import Celery, shared_task


def print_id(event_id: str | None) -> None:
    # One write, as several processes and threads share the pipe.
    os.write(1, f"{event_id}\n".encode())


def publish(number: int = 0, **options: Any) -> None:
    print_id(events.publish("caller.noted", number, **options))


if "after_everything" in sys.argv:
    # It was registered first, so it is called last: the plugin has drained by then.
    atexit.register(publish)

from celery_tasker_events import DomainEvents, publishes_events  # noqa: E402  # after the above, which is to come first

app = Celery("caller", set_as_current=False)
app.conf.update(json.loads(os.environ["CALLER_SETTINGS"]))
events = DomainEvents(app)


def ends_at_once() -> None:
    publish()


def after_everything() -> None:
    publish()


def in_an_exit_handler() -> None:
    publish()
    atexit.register(publish)


def exits() -> None:
    publish()
    sys.exit(3)


def raises() -> None:
    publish()
    raise RuntimeError("the caller's own")


def drains_and_dies() -> None:
    publish()
    publish(1, confirm=True)
    print(events.drain(30), flush=True, file=sys.stderr)
    os._exit(4)


def in_threads() -> None:
    """The main thread ends before its other threads."""
    publish()

    def work() -> None:
        threading.main_thread().join(30)
        for number in range(100):
            publish(number)

    for _ in range(3):
        threading.Thread(target=work).start()


def in_a_daemon_thread() -> None:
    """It goes on until the interpreter ends."""
    enough = threading.Event()

    def work() -> None:
        number = 0
        while True:
            publish(number)
            number += 1
            if number == 50:
                enough.set()

    threading.Thread(target=work, daemon=True).start()
    enough.wait(30)


def in_a_loop() -> None:
    async def ticks() -> None:
        while True:
            ticked.append(None)
            await asyncio.sleep(0.01)

    async def main() -> None:
        ticking = asyncio.create_task(ticks())
        for number in range(20):
            publish(number)
        with events.correlation("by-block"):
            print_id(await asyncio.to_thread(events.publish, "caller.noted", 20, confirm=True))
        ticking.cancel()

    ticked: list[None] = []
    asyncio.run(main())
    assert len(ticked) > 1, "the loop went on while the thread waited"


def forks() -> None:
    """Again and again, while the threads of the parent are at work."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            publish()
            stop.wait(0.001)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    children = []
    for _ in range(10):
        pid = os.fork()
        if pid == 0:
            for number in range(20):
                publish(number)
            sys.exit(0)
        children.append(pid)
        publish()
    stop.set()
    for thread in threads:
        thread.join()
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 10


def forks_before_it_publishes() -> None:
    pid = os.fork()
    publish()
    if pid:
        assert os.waitpid(pid, 0)[1] == 0


def _of_multiprocessing(method: str) -> None:
    publish()
    context = multiprocessing.get_context(method)
    processes = [context.Process(target=_publish_some) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 3


def _publish_some() -> None:
    for number in range(20):
        publish(number)


def spawns() -> None:
    _of_multiprocessing("spawn")


def uses_a_fork_server() -> None:
    _of_multiprocessing("forkserver")


def uses_forked_processes() -> None:
    _of_multiprocessing("fork")


def has_two_apps() -> None:
    """They share a task, and one ends before the other."""
    other = Celery("other", set_as_current=False)
    other.conf.update(json.loads(os.environ["CALLER_SETTINGS"]) | json.loads(os.environ["CALLER_OTHER_SETTINGS"]))
    other_events = DomainEvents(other)
    for one in (app, other):
        one.set_current()
        pay.apply(args=[one.main], throw=True)
    assert events.close()
    other_events.publish("caller.noted", "the other goes on")
    events.publish("caller.noted", "this one begins again")


@shared_task(name="caller.pay")
@publishes_events("payment.made")
def pay(app_name: str) -> str:
    return app_name


if __name__ == "__main__":
    end: Callable[[], None] = globals()[sys.argv[1]]
    end()
