"""In a green pool, a Postgres that does not answer stops no other greenlet."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from queues import messages, names
from tcp_proxy import TcpProxy
from worker_process import wait_until

#: The app is imported, and only then all is patched: as in a server that loads it before it forks.
PATCHED_LATE = """
import sys
from celery import Celery
from celery_tasker_events import DomainEvents

dsn, pool = sys.argv[1:]
events = DomainEvents(Celery("shop", broker="memory://"))
events.app.conf.update(tasker_events_dsn=dsn, tasker_events_namespace="payments")
if pool == "gevent":
    from gevent import monkey, sleep
    monkey.patch_all()
else:
    from eventlet import monkey_patch, sleep
    monkey_patch()
for number in range(3):
    assert events.publish("payment.noted", number)
    sleep(0.1)
assert events.drain(30)
assert events.close(30)
"""


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_tasks_go_on_while_a_commit_waits_for_postgres(shop, tcp_dsn, pool):
    if importlib.util.find_spec(pool) is None:
        pytest.skip(f"{pool} is not installed: pip install {pool}")
    server = conninfo_to_dict(tcp_dsn)
    with TcpProxy(server["host"], int(server["port"])) as proxy:
        worker = shop.start(pool=pool, dsn=make_conninfo(tcp_dsn, host="127.0.0.1", port=proxy.port))
        shop.send("pay", 0).get(timeout=30)
        wait_until(lambda: "payment.processed" in names(messages(tcp_dsn, "payments")), "the connection is there")

        proxy.freeze()
        for order in range(1, 5):
            assert shop.send("pay", order).get(timeout=30)["order"] == order
        proxy.restore()
        assert worker.stop() == 0

    orders = [e["payload"]["order"] for e in messages(tcp_dsn, "payments") if e["event_name"] == "payment.processed"]
    assert orders == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_what_is_patched_after_the_import_publishes_all_the_same(dsn, pool):
    if importlib.util.find_spec(pool) is None:
        pytest.skip(f"{pool} is not installed: pip install {pool}")

    subprocess.run([sys.executable, "-W", "ignore", "-c", PATCHED_LATE, dsn, pool], check=True, timeout=60)

    assert [event["payload"] for event in messages(dsn, "payments")] == [0, 1, 2]
