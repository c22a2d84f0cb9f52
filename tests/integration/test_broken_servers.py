"""A Postgres that is cut off, or whose disk is full: events wait on disk, and all are there in order when it is mended."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from queues import messages
from tcp_proxy import TcpProxy
from wheel import give
from worker_process import wait_until

from celery_tasker_events.durable.spool.place import spool_path
from celery_tasker_events.durable.spool.report import spool_totals


def publish(events, numbers):
    for number in numbers:
        assert events.publish("number.noted", number, namespace="numbers")


def published(dsn):
    return [event["payload"] for event in messages(dsn, "numbers") if "payload" in event]


@pytest.fixture
def proxy(tcp_dsn):
    parts = conninfo_to_dict(tcp_dsn)
    with TcpProxy(parts.get("host", "127.0.0.1"), int(parts.get("port", 5432))) as proxy:
        yield proxy


def outage(proxy):
    proxy.refuse()
    proxy.cut()


@pytest.mark.parametrize("breaking", [outage, TcpProxy.freeze], ids=["cut off", "hangs"])
def test_a_network_that_breaks(proxy, tcp_dsn, publish_to, spool_dir, breaking):
    dsn = make_conninfo(tcp_dsn, host="127.0.0.1", port=proxy.port)
    events = publish_to(dsn)
    publish(events, range(50))
    assert events.drain(30)

    breaking(proxy)
    publish(events, range(50, 300))
    wait_until(lambda: spool_totals(spool_path(dsn, spool_dir)).events == 250, "all of them are on disk")
    proxy.restore()
    publish(events, range(300, 310))
    assert events.drain(60)

    assert sorted(set(published(tcp_dsn))) == list(range(310))
    # What was in flight when the network broke may have been committed without our hearing of it.
    first_times = list(dict.fromkeys(published(tcp_dsn)))
    assert first_times == list(range(310))


def test_connections_that_are_cut_again_and_again(proxy, tcp_dsn, publish_to):
    events = publish_to(make_conninfo(tcp_dsn, host="127.0.0.1", port=proxy.port))
    for start in range(0, 500, 50):
        publish(events, range(start, start + 50))
        proxy.cut()
    assert events.drain(60)

    assert list(dict.fromkeys(published(tcp_dsn))) == list(range(500))


@pytest.fixture
def small_disk(own_postgres):
    """A folder of the server's user on a file system of its own, with room for a few megabytes."""
    folder = Path(tempfile.mkdtemp(prefix="small-disk-"))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("only root can make a small disk: mount is not allowed here")
    give(folder, own_postgres)
    yield folder
    own_postgres.shut_down("immediate")
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


def fill_up(connection):
    filler = "array(select jsonb_build_object('number', n, 'filler', repeat('x', 1000)) from generate_series(1, 5000) n)"
    for _ in range(100):
        connection.execute(f"select count(*) from pgmq.send_batch('numbers_domain_events', {filler})")


def test_a_server_whose_disk_is_full(own_postgres, small_disk, publish_to, spool_dir, caplog):
    dsn = own_postgres.dsn
    own_postgres.set_up(["numbers_domain_events"])
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"create tablespace small location '{small_disk}'")
        connection.execute("alter table pgmq.q_numbers_domain_events set tablespace small")
        with pytest.raises(psycopg.errors.DiskFull):
            fill_up(connection)

    events = publish_to(dsn)
    publish(events, range(200))
    wait_until(lambda: spool_totals(spool_path(dsn, spool_dir)).events > 0, "they wait on disk")
    assert not events.drain(0.5)
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    assert events.drain(60)

    assert published(dsn) == list(range(200))
    assert caplog.text.count("Durable domain events wait on disk") == 1
