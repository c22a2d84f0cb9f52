"""Locks that no fork leaves locked: in the child, and between threads that fork at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from celery_tasker_events.forking import ForkLock

FORKING_AT_ONCE = """
import os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from celery_tasker_events.forking import ForkLock

locks = [ForkLock() for _ in range(20)]
sys.setswitchinterval(1e-6)

def fork_often():
    for _ in range(100):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

threads = [threading.Thread(target=fork_often, daemon=True) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
print("stuck" if any(thread.is_alive() for thread in threads) else "done", flush=True)
os._exit(0)
"""


def test_threads_that_fork_at_once_do_not_wait_for_each_other() -> None:
    done = subprocess.run([sys.executable, "-c", FORKING_AT_ONCE], capture_output=True, text=True, timeout=120, check=True)

    assert (done.stdout, done.stderr) == ("done\n", "")


def test_a_child_has_the_lock_free_whoever_held_it() -> None:
    lock = ForkLock()
    entered, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            entered.set()
            assert release.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(30)
    # The fork waits until nobody is inside.
    threading.Timer(0.1, release.set).start()
    pid = os.fork()
    if pid == 0:
        with lock:
            os._exit(0)
    thread.join()

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
