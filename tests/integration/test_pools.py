"""Every pool publishes every event of its tasks exactly once, and drains when it is stopped."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from types import SimpleNamespace

import pytest
from queues import messages

ORDERS = range(30)

POOLS = ["prefork", "threads", "solo", "gevent"]


@pytest.fixture(scope="module", params=POOLS)
def run(request, tmp_path_factory, new_database, make_shop):
    """A worker of each pool that is sent a burst of orders, and is stopped as soon as the last of them has ended."""
    pool = request.param
    if pool == "gevent" and importlib.util.find_spec("gevent") is None:
        pytest.skip("gevent is not installed: pip install 'celery[gevent]'")
    shop = make_shop(tmp_path_factory.mktemp(pool))
    dsn = new_database()
    worker = shop.start(pool=pool, dsn=dsn)
    results = [shop.send("pay", number) for number in ORDERS]
    ended = [result.get(timeout=60) for result in results]
    exit_code = worker.stop()
    return SimpleNamespace(pool=pool, worker=worker, exit_code=exit_code, results=results, ended=ended, dsn=dsn)


def test_the_tasks_end_as_ever(run):
    assert [result["order"] for result in run.ended] == list(ORDERS)
    assert run.exit_code == 0


@pytest.mark.parametrize("name", ["payment.processed", "payment.flagged", "payment.enriched"])
def test_every_durable_and_broadcast_event_is_in_the_queue_exactly_once(run, name):
    steps = Counter(event["metadata"]["step_uuid"] for event in messages(run.dsn, "payments") if event["event_name"] == name)

    assert steps == {result.id: 1 for result in run.results}


@pytest.mark.parametrize("name", ["payment.processed", "payment.counted"])
def test_every_fast_and_broadcast_event_is_heard_exactly_once(run, name):
    heard = re.findall(rf"heard {re.escape(name)} (\S+)", run.worker.log)

    assert len(heard) == len(set(heard)) == len(ORDERS)


def test_the_log_has_no_trouble_of_ours(run):
    assert "dropped" not in run.worker.log
    assert "not published" not in run.worker.log
    assert not [trace for trace in re.findall(r"Traceback.*?(?=\n\[|\Z)", run.worker.log, re.DOTALL) if "tasker_events" in trace]
