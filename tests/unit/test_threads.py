"""Signals to the process are left to its main thread, and a thread waits, and is waited for, no longer than it has to."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import threading

import pytest
from worker_process import wait_until

from celery_tasker_events.threads import Sleep, start_thread, unsignalled

LONG = 30.0

END_OF_CHILD = {signal.SIGTERM, signal.SIGQUIT}


def blocked() -> set[int]:
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_a_thread_takes_signals_until_its_end_but_not_while_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    # Called by the thread when its target is done.
    monkeypatch.setattr(threading, "excepthook", lambda _: seen.append(blocked()))

    def target() -> None:
        seen.append(blocked())
        raise ValueError("the end")

    start_thread(target, "ending").join()

    during, after = seen
    assert not during & END_OF_CHILD
    assert after >= END_OF_CHILD
    assert not blocked() & END_OF_CHILD


def test_what_starts_where_signals_are_kept_away_takes_none() -> None:
    seen = []

    def outer() -> None:
        seen.append(blocked())
        start_thread(lambda: seen.append(blocked()), "inner").join()

    with unsignalled():
        thread = start_thread(outer, "outer")
    thread.join()

    assert all(each >= END_OF_CHILD for each in seen)
    assert len(seen) == 2
    assert not blocked() & END_OF_CHILD


def test_a_greenlet_in_a_threads_place_leaves_the_main_thread_its_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "get_native_id", lambda: 1)
    seen = []
    monkeypatch.setattr(threading, "excepthook", lambda _: seen.append(blocked()))

    start_thread(lambda: 1 / 0, "green").join()

    assert not seen[0] & END_OF_CHILD


WAITING_IN_A_GREENLET = """
import eventlet
eventlet.monkey_patch()
import threading
from celery_tasker_events.threads import join_thread, start_thread

thread = start_thread(threading.Event().wait, "hanging")
join_thread(thread, 0.01)
print("went on")
try:
    with eventlet.Timeout(0.02):
        join_thread(thread, 30)
except eventlet.Timeout:
    print("was timed out")
"""


# Not imported here: from then on it would warn of every fork in this process.
@pytest.mark.skipif(importlib.util.find_spec("eventlet") is None, reason="eventlet is not installed")
def test_a_thread_that_does_not_end_in_time_is_left_under_eventlet_too() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WAITING_IN_A_GREENLET], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.stdout.splitlines(), done.stderr) == (["went on", "was timed out"], "")


def test_nothing_that_is_put_under_the_lock_is_missed() -> None:
    lock = threading.Condition()
    sleep = Sleep(lock)
    waiting: list[int] = []
    got: list[int] = []

    def take() -> None:
        while len(got) < 4000:
            with lock:
                while not waiting:
                    sleep.begin()
                got.extend(waiting)
                waiting.clear()

    def put(numbers: range) -> None:
        for number in numbers:
            with lock:
                waiting.append(number)
                sleep.end()

    threads = [threading.Thread(target=take), *(threading.Thread(target=put, args=[range(n, 4000, 4)]) for n in range(4))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)

    assert not any(thread.is_alive() for thread in threads)
    assert sorted(got) == list(range(4000))


def test_to_end_it_where_nobody_sleeps_wakes_nobody_later() -> None:
    lock = threading.Condition()
    sleep = Sleep(lock)
    woken = threading.Event()

    def rest() -> None:
        with lock:
            sleep.begin()
            woken.set()

    def is_asleep() -> bool:
        with lock:
            return sleep._goes_on

    with lock:
        sleep.end()
        sleep.end()
    assert sleep._ended.empty()
    thread = threading.Thread(target=rest)
    thread.start()

    wait_until(is_asleep, "the thread sleeps")
    assert not woken.is_set()
    with lock:
        sleep.end()
    assert woken.wait(LONG)
    thread.join(LONG)
