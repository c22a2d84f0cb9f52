"""In a green pool, a Postgres that does not answer stops no other greenlet."""

from __future__ import annotations

import importlib.util

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from queues import messages, names
from tcp_proxy import TcpProxy
from worker_process import wait_until


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
