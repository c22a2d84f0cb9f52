"""Every pool, on every broker: each event exactly once, in order, nothing shared by two processes, and nothing for nothing."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from types import SimpleNamespace

import psycopg
import pytest
from queues import messages
from services import RABBITMQ, REDIS, url_of
from worker_process import wait_until

POOLS = ["prefork", "threads", "solo", "gevent", "eventlet"]
BROKERS = {"folder": None, "redis": REDIS, "rabbitmq": RABBITMQ}

ORDERS = 30

NOTHING = {"threads": [], "sockets": [], "imported": []}


def backends(dsn):
    """How many connections of this plugin the database serves."""
    with psycopg.connect(dsn) as connection:
        query = "select count(*) from pg_stat_activity where datname = current_database() and application_name = %s"
        return connection.execute(query, ["celery-tasker-events"]).fetchone()[0]


class Bench:
    """A worker of one pool on one broker, and what its processes report."""

    def __init__(self, shop, pool, dsn):
        self.shop, self.pool, self.dsn = shop, pool, dsn
        self.worker = shop.start(app="pools", pool=pool, dsn=dsn)

    def send(self, task, **kwargs):
        return self.shop.client.send_task(f"pools.{task}", kwargs=kwargs)

    def note(self, count, delay=0.0):
        return [self.send("note", delay=delay) for _ in range(count)]

    def look_at_main_process(self):
        # A green pool may listen only some time after it says that it is ready.
        control = self.shop.client.control
        (reply,) = wait_until(lambda: control.broadcast("look", reply=True, timeout=1, limit=1), "the main process reports")
        (report,) = reply.values()
        return report

    def look_at_processes(self, pids):
        """The report of each of these processes that run tasks."""
        seen = {}

        def look():
            # Long enough for every child to have one.
            for result in [self.send("look", delay=0.05) for _ in range(4)]:
                report = result.get(timeout=60)
                seen[report["pid"]] = report
            return pids <= seen.keys()

        wait_until(look, "every process has reported", timeout=60)
        return [seen[pid] for pid in pids]


@pytest.fixture(scope="module", params=[(pool, broker) for broker in BROKERS for pool in POOLS], ids="-".join)
def run(request, tmp_path_factory, new_database, make_shop):
    """A worker that is looked at before and after it has published, and is stopped in the middle of a burst."""
    pool, broker = request.param
    if pool in ("gevent", "eventlet") and importlib.util.find_spec(pool) is None:
        pytest.skip(f"{pool} is not installed: pip install {pool}")
    shop = make_shop(tmp_path_factory.mktemp("pool"))
    if BROKERS[broker] is not None:
        shop.use_broker(url_of(BROKERS[broker]))
    bench = Bench(shop, pool, new_database())
    run = SimpleNamespace(pool=pool, dsn=bench.dsn, worker=bench.worker)

    run.idle = [bench.look_at_main_process(), *(bench.send("look").get(timeout=60) for _ in range(2))]
    run.backends_when_idle = backends(bench.dsn)
    run.results = bench.note(ORDERS, delay=0.01)
    run.publishers = {result.get(timeout=60) for result in run.results}
    run.main = bench.look_at_main_process()
    run.busy = bench.look_at_processes(run.publishers)
    run.backends_when_busy = backends(bench.dsn)
    if pool == "prefork":
        _replace_a_child(bench, run)
    run.results += (burst := bench.note(ORDERS))
    for result in burst:
        result.get(timeout=60)
    run.exit_code = run.worker.stop()
    return run


def _replace_a_child(bench, run):
    """Let the main process publish, too, before it forks the next child; then compare all that are alive."""
    bench.send("too_long").get(timeout=60, propagate=False)

    def replacement():
        results = bench.note(4, delay=0.05)
        run.results += results
        return {result.get(timeout=60) for result in results} - run.publishers

    new = wait_until(replacement, "another child has published", timeout=60)
    run.after_replacement = [bench.look_at_main_process(), *bench.look_at_processes(new)]


def test_a_process_that_publishes_nothing_has_nothing_of_it(run):
    assert [{key: report[key] for key in NOTHING} for report in run.idle] == [NOTHING] * 3
    assert run.backends_when_idle == 0


def test_what_publishing_needs_is_imported_before_a_child_is_forked_or_a_task_runs(run):
    assert [report["imported"] for report in run.busy] == [[]] * len(run.publishers)


def test_each_process_that_publishes_has_threads_and_a_connection_of_its_own(run):
    assert run.backends_when_busy == len(run.publishers)
    for report in run.busy:
        assert {"tasker-events-dispatcher", "tasker-events-writer"} <= set(report["threads"])
        assert len(report["sockets"]) == 1
    sockets = [report["sockets"][0] for report in run.busy]
    assert len(set(sockets)) == len(run.publishers)


def test_the_main_process_of_prefork_has_nothing_while_only_children_publish(run):
    if run.pool == "prefork":
        assert {key: run.main[key] for key in NOTHING} == NOTHING
        assert run.main["pid"] not in run.publishers
    else:
        assert run.publishers == {run.main["pid"]}


def test_a_child_that_is_forked_from_a_publishing_process_shares_no_socket_with_it(run):
    if run.pool == "prefork":
        assert all(report["threads"] for report in run.after_replacement)
        assert [len(report["sockets"]) for report in run.after_replacement] == [1, 1]
        main, child = run.after_replacement
        assert set(main["sockets"]).isdisjoint(child["sockets"])


@pytest.mark.parametrize("name", ["order.noted", "order.told"])
def test_every_durable_and_broadcast_event_is_in_the_queue_exactly_once(run, name):
    steps = Counter(event["metadata"]["step_uuid"] for event in messages(run.dsn, "orders") if event["event_name"] == name)

    assert steps == {result.id: 1 for result in run.results}


@pytest.mark.parametrize("name", ["order.told", "order.counted"])
def test_every_fast_and_broadcast_event_is_heard_exactly_once(run, name):
    heard = re.findall(rf"heard {re.escape(name)} (\S+)", run.worker.log)

    assert Counter(heard) == {result.id: 1 for result in run.results}


def test_the_events_of_a_process_are_in_the_order_in_which_they_were_accepted(run):
    numbers = {}
    for event in messages(run.dsn, "numbers"):
        numbers.setdefault(event["payload"]["pid"], []).append(event["payload"]["number"])

    assert numbers == {pid: list(range(len(of_process))) for pid, of_process in numbers.items()}
    assert sum(map(len, numbers.values())) == 3 * len(run.results)


def test_the_worker_ends_well(run):
    assert run.exit_code == 0
    assert run.worker.troubles_of_ours() == []
