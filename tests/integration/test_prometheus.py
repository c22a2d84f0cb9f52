"""A worker's main process serves Prometheus the sums over all its processes, and stands in nobody's way."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import socket
import threading
import urllib.error
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from queues import messages
from scraping import address_of, families_of, samples_of, text_of
from worker_process import wait_until

ORDERS = range(12)
PUBLISHED = "tasker_domain_events_published_total"


def queued(dsn):
    return Counter(event["event_name"] for queue in ("payments", "audit") for event in messages(dsn, queue))


def wait_for_counts(address, dsn, total):
    wait_until(lambda: sum(samples_of(address, PUBLISHED, "event_name").values()) == total, "all is counted", 60)
    assert samples_of(address, PUBLISHED, "event_name") == queued(dsn)


@pytest.fixture(scope="module")
def recycled(tmp_path_factory, new_database, make_shop):
    """A prefork worker whose children end after two tasks, scraped all the while."""
    shop, dsn = make_shop(tmp_path_factory.mktemp("prometheus")), new_database()
    environment = {"SHOP_SUBSCRIBER_RAISES": "1"}
    worker = shop.start("--max-tasks-per-child", "2", dsn=dsn, metrics_port=0, environment=environment)
    address = address_of(worker)
    before = samples_of(address, PUBLISHED, "event_name"), text_of(address)
    seen, stop = [], threading.Event()

    def scrape():
        while not stop.is_set():
            seen.append(sum(samples_of(address, PUBLISHED, "event_name").values()))

    scraper = threading.Thread(target=scrape)
    scraper.start()
    results = [shop.send("pay", number) for number in ORDERS]
    results += [shop.send("violates_schema"), shop.send("broken_publisher")]
    for result in results:
        result.get(timeout=120)
    wait_for_counts(address, dsn, 4 * len(ORDERS) + 1)
    stop.set()
    scraper.join()
    yield SimpleNamespace(shop=shop, dsn=dsn, worker=worker, address=address, seen=seen, before=before)
    shop.kill()


def test_the_sums_over_recycled_children_are_what_is_in_the_queues(recycled):
    # Each order has four durable events; twelve of them took at least six children.
    assert samples_of(recycled.address, PUBLISHED, "event_name", "namespace", "delivery_mode") == {
        ("payment.processed", "payments", "broadcast"): 12,
        ("payment.enriched", "payments", "durable"): 12,
        ("payment.flagged", "payments", "durable"): 12,
        ("payment.tried", "audit", "durable"): 12,
        ("sound.publisher", "payments", "durable"): 1,
    }
    assert samples_of(recycled.address, "tasker_domain_events_counts_complete") == {(): 1}


def test_a_counter_never_goes_down_while_children_come_and_go(recycled):
    assert len(recycled.seen) > 1
    assert recycled.seen == sorted(recycled.seen)


def test_declared_events_are_there_before_their_first_one(recycled):
    counts, text = recycled.before

    assert counts == {}
    assert f'{PUBLISHED}{{delivery_mode="durable",event_name="payment.failed",namespace="payments"}} 0.0' in text


def test_failures_and_dead_letters_tell_where_and_why(recycled):
    wait_until(lambda: len(samples_of(recycled.address, "tasker_domain_events_dead_lettered_total", "event_name")) == 2, "parked")

    failed = samples_of(recycled.address, "tasker_domain_events_failed_total", "event_name", "reason")
    assert failed["odd.schema", "schema"] == 1
    assert failed["broken.publisher", "transform_payload"] == 1
    assert failed["payment.processed", "subscriber error"] == len(ORDERS)


def test_calls_of_subscribers_are_counted_by_their_result(recycled):
    orders = len(ORDERS)

    wait_until(
        lambda: (
            samples_of(recycled.address, "tasker_domain_events_subscriber_calls_total", "subscriber", "result")
            == {("shop.hear", "handled"): 2 * orders, ("shop.fail_to_hear", "failed"): 2 * orders}
        ),
        "all is heard",
    )


def test_the_durations_of_recycled_children_are_one_histogram(recycled):
    name = "tasker_domain_event_publish_duration_milliseconds"
    counts = samples_of(recycled.address, f"{name}_count", "event_name", "delivery_mode")
    # What waits when a child ends goes by way of the disk, where nothing follows it; what is in flight then may be in time.
    by_disk = samples_of(recycled.address, "tasker_domain_events_spooled_total", "event_name").get("payment.processed", 0)

    assert by_disk < len(ORDERS)
    assert len(ORDERS) - by_disk <= counts["payment.processed", "broadcast"] <= len(ORDERS)
    assert counts["payment.counted", "fast"] == len(ORDERS)
    buckets = samples_of(recycled.address, f"{name}_bucket", "event_name", "le")
    of_one = [buckets.get(("payment.processed", bound), 0) for bound in ("1.0", "10.0", "100.0", "10000.0", "+Inf")]
    assert of_one == sorted(of_one)
    assert of_one[-1] == counts["payment.processed", "broadcast"]
    assert samples_of(recycled.address, f"{name}_sum", "event_name")["payment.processed"] > 0


def inode_of(port):
    """The inode of the socket that listens on a local port."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    [inode] = {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}
    return inode


def holders_of(inode):
    """The processes that hold a socket open."""
    holders = set()
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if str(descriptor.readlink()) == f"socket:[{inode}]":
                holders.add(int(descriptor.parts[2]))
    return holders


def test_only_the_main_process_holds_the_port(shop, dsn):
    worker = shop.start("--max-tasks-per-child", "1", dsn=dsn, metrics_port=0)
    port = int(address_of(worker).rpartition(":")[2].partition("/")[0])
    # Three tasks for three children, so that some were forked while it was open already.
    [shop.send("pay", number).get(timeout=60) for number in range(3)]

    wait_until(lambda: holders_of(inode_of(port)) == {worker.process.pid}, "no child holds it")


def test_the_counts_do_not_shrink_while_the_worker_ends(shop, dsn):
    worker = shop.start(dsn=dsn, metrics_port=0)
    address = address_of(worker)
    for result in [shop.send("pay", number) for number in ORDERS]:
        result.get(timeout=60)
    wait_for_counts(address, dsn, 4 * len(ORDERS))
    seen = []

    def scrape():
        # The last one may be cut off in the middle.
        with contextlib.suppress(OSError, http.client.HTTPException):
            while True:
                seen.append(sum(samples_of(address, PUBLISHED, "event_name").values()))

    scraper = threading.Thread(target=scrape)
    scraper.start()
    assert worker.stop() == 0
    scraper.join()

    assert set(seen) == {4 * len(ORDERS)}


@pytest.mark.parametrize("pool", ["threads", "solo", "gevent"])
def test_every_pool_serves_what_is_in_the_queues(shop, dsn, pool):
    if pool == "gevent" and importlib.util.find_spec("gevent") is None:
        pytest.skip("gevent is not installed: pip install 'celery[gevent]'")
    worker = shop.start(pool=pool, dsn=dsn, metrics_port=0)
    address = address_of(worker)
    for result in [shop.send("pay", number) for number in ORDERS]:
        result.get(timeout=60)

    wait_for_counts(address, dsn, 4 * len(ORDERS))
    assert worker.stop() == 0
    with pytest.raises(urllib.error.URLError):
        text_of(address)


def test_a_port_that_is_taken_is_told_and_the_worker_goes_on(shop, dsn):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        worker = shop.start(dsn=dsn, metrics_port=port)
        shop.send("pay", 1).get(timeout=60)

        assert worker.log.count(f"Metrics are not served: 127.0.0.1:{port} can't be had") == 1
        assert worker.stop() == 0


def test_without_a_port_nothing_is_served_and_nothing_is_loaded(shop, dsn):
    worker = shop.start(dsn=dsn)
    shop.send("pay", 1).get(timeout=60)

    assert "Metrics are" not in worker.log


def test_an_outage_is_seen_in_the_depths_connections_and_spool(shop, dsn, tmp_path):
    unreachable = dsn.replace("postgres:@", "postgres:secret@") + "&port=1"
    worker = shop.start(dsn=unreachable, spool_dir=str(tmp_path / "spool"), metrics_port=0)
    address = address_of(worker)
    for result in [shop.send("pay", number) for number in ORDERS]:
        result.get(timeout=60)
    waiting = 4 * len(ORDERS)

    wait_until(
        lambda: (
            samples_of(address, "tasker_domain_events_channel_depth", "channel") == {"durable": waiting}
            and list(samples_of(address, "tasker_domain_events_spool_events", "database").values()) == [waiting]
        ),
        "all wait",
        60,
    )
    assert sum(samples_of(address, "tasker_domain_events_spooled_total", "event_name").values()) == waiting
    assert set(samples_of(address, "tasker_domain_events_connections", "state")) == {"down"}
    [(database, age)] = samples_of(address, "tasker_domain_events_spool_oldest_age_seconds", "database").items()
    assert age > 0
    assert ("secret" in text_of(address), "***" in database) == (False, True)
    assert families_of(address)["tasker_domain_events_spool_bytes"].samples[0].value > 0
