"""However a worker ends, what it accepted before is committed, as long as Postgres takes it in time."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import time
from dataclasses import dataclass, field
from typing import Any

import celery
import pytest
from bursts import BurstingWorker, all_of, noted, nothing_is_committed
from queues import messages
from worker_process import wait_until

CELERY = tuple(map(int, celery.__version__.split(".")[:2]))

#: Seconds for which Postgres takes nothing when the ending has begun: a child that does not drain is gone by then.
BUSY = 3.0

#: Seconds of a soft shutdown.
SOFT = 1.5

TERM, INT, QUIT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP


@dataclass(frozen=True)
class Ending:
    """A worker of a pool, what it is told, and whether a task still runs then."""

    signals: tuple[signal.Signals, ...]
    pool: str = "prefork"
    running: bool = False
    conf: dict[str, Any] = field(default_factory=dict)
    start: dict[str, Any] = field(default_factory=dict)


POOLS = ["prefork", "threads", "solo", *(pool for pool in ("gevent", "eventlet") if importlib.util.find_spec(pool))]

#: Endings that are seen in one run, side by side.
GROUPS = {
    "SIGTERM": {pool: Ending((TERM,), pool) for pool in POOLS},
    "SIGQUIT": {pool: Ending((QUIT,), pool) for pool in POOLS},
    "SIGQUIT while a task runs": {pool: Ending((QUIT,), pool, running=True) for pool in POOLS},
    "other warm shutdowns": {
        "SIGINT": Ending((INT,)),
        "a second SIGTERM": Ending((TERM, TERM)),
        # Celery starts itself anew then; not where it was started by ``python -m celery``, as here.
        "SIGHUP": Ending((HUP,)),
        "remote control": Ending(()),
    },
    "other cold shutdowns": {
        "a second SIGINT": Ending((INT, INT), running=True),
        "SIGTERM, then SIGQUIT": Ending((TERM, QUIT), running=True),
        "REMAP_SIGTERM": Ending((TERM,), running=True, start={"environment": {"REMAP_SIGTERM": "SIGQUIT"}}),
        **(
            {"soft shutdown": Ending((QUIT,), running=True, conf={"worker_soft_shutdown_timeout": SOFT})}
            if CELERY >= (5, 5)
            else {}
        ),
    },
}


@pytest.fixture(scope="module")
def start(tmp_path_factory, new_database, make_shop):
    """Starts a worker for each ending, with a broker and a database of its own, all at once."""

    def start(endings, **settings):
        workers = {}
        for name, ending in endings.items():
            shop = make_shop(tmp_path_factory.mktemp("ending"))
            shop.settings.update(ending.conf)
            start = {"wait_ready": False, **ending.start, **settings}
            workers[name] = BurstingWorker(shop, new_database(), pool=ending.pool, **start)
        for bench in workers.values():
            bench.worker.wait_ready()
        return workers

    return start


@pytest.fixture(scope="module", params=GROUPS)
def ended(request, start, tmp_path_factory):
    """Workers that have ended: each had more to commit than Postgres would take when it was told."""
    go = tmp_path_factory.mktemp("signs") / "go"
    endings = GROUPS[request.param]
    workers = start(endings)
    with contextlib.ExitStack() as stack:
        for name, ending in endings.items():
            stack.enter_context(nothing_is_committed(workers[name].dsn))
            workers[name].burst("ended").get(timeout=120)
            # Celery says so when the signals have been sent.
            wait_until(lambda name=name: "succeeded in" in workers[name].worker.log, "the step has told of its end")
            if ending.running:
                workers[name].burst("running", until=go)
        for name, ending in endings.items():
            if ending.signals:
                workers[name].signal(*ending.signals)
            else:
                workers[name].shop.client.control.shutdown()
        time.sleep(BUSY + (SOFT if request.param == "other cold shutdowns" else 0))
        # Prefork and the green pools end a running task; a thread goes on until it is done.
        go.touch()
    for bench in workers.values():
        bench.ends()
    return {name: (endings[name], bench) for name, bench in workers.items()}


def test_everything_that_was_accepted_is_committed(ended):
    lost = {}
    for name, (ending, bench) in ended.items():
        accepted = all_of("ended", *(["running"] if ending.running else []))
        found = noted(bench.dsn)
        lost[name] = len(set(accepted) - set(found))
        assert len(found) == len(set(found))
        assert set(found) <= set(accepted)

    assert lost == dict.fromkeys(ended, 0)


def test_the_event_of_a_step_that_had_ended_is_committed(ended):
    counts = {
        name: sum(e["event_name"] == "burst.ended" for e in messages(bench.dsn, "bursts")) for name, (_, bench) in ended.items()
    }
    # A step that was still running may have come to its end, too.
    assert all(count in ((1, 2) if ended[name][0].running else (1,)) for name, count in counts.items()), counts


def test_the_logs_have_no_trouble_of_ours(ended):
    troubles = {name: bench.worker.troubles_of_ours() for name, (_, bench) in ended.items()}
    assert not any(troubles.values()), troubles


def end_while_nothing_is_committed(workers):
    """End these by SIGTERM. The block lasts as long as they do, and so would a drain without a limit."""
    with contextlib.ExitStack() as stack:
        for bench in workers.values():
            stack.enter_context(nothing_is_committed(bench.dsn))
            bench.burst("ended").get(timeout=120)
            bench.signal(TERM)
        assert {pool: bench.ends() for pool, bench in workers.items()} == dict.fromkeys(workers, 0)


def test_no_worker_waits_longer_than_the_drain_may_take(start):
    end_while_nothing_is_committed(start({pool: GROUPS["SIGTERM"][pool] for pool in ("prefork", "threads")}, drain_ms=200))


def test_what_postgres_does_not_take_waits_on_disk_for_the_next_process(start, publish_to):
    workers = start(GROUPS["SIGTERM"], spool=True, drain_ms=3000)
    end_while_nothing_is_committed(workers)

    for bench in workers.values():
        publish_to(bench.dsn, spool_dir=None).adopt()  # where the workers have theirs
    for pool, bench in workers.items():
        # Twice, where Postgres finished a statement whose process was gone.
        wait_until(
            lambda bench=bench: set(noted(bench.dsn)) == set(all_of("ended")), f"the events of {pool} are there", timeout=180
        )
