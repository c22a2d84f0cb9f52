"""The broker goes away and comes back: nothing that was accepted is lost, and what is redelivered repeats its keys."""

from __future__ import annotations

import contextlib
from collections import Counter
from urllib.parse import urlsplit

import pytest
from bursts import COUNT, BurstingWorker, all_of, noted, nothing_is_committed
from queues import messages
from services import RABBITMQ, REDIS, url_of
from tcp_proxy import TcpProxy
from worker_process import wait_until


@pytest.fixture
def proxied(shop):
    """Lets a shop's workers reach their broker through a proxy; the client goes straight."""
    with contextlib.ExitStack() as stack:

        def proxied(service):
            url = url_of(service)
            shop.use_broker(url)
            proxy = stack.enter_context(TcpProxy(urlsplit(url).hostname, urlsplit(url).port))
            shop.settings["broker_url"] = proxy.before(url)
            return proxy

        yield proxied


def lose_connection(proxy, bench):
    """Cut the worker off for long enough that it notices."""
    proxy.refuse()
    proxy.cut()
    wait_until(lambda: "Trying again in" in bench.worker.log, "the worker has noticed")
    proxy.restore()


@pytest.mark.parametrize(
    ("service", "pool"),
    [(REDIS, "prefork"), (REDIS, "threads"), (RABBITMQ, "prefork")],
    ids=lambda value: getattr(value, "name", value),
)
def test_nothing_that_was_accepted_is_lost(shop, dsn, proxied, tmp_path, service, pool):
    proxy = proxied(service)
    bench = BurstingWorker(shop, dsn, pool=pool)
    with nothing_is_committed(dsn):
        bench.burst("running", until=tmp_path / "go")
        lose_connection(proxy, bench)
        (tmp_path / "go").touch()

    bench.burst("afterwards").get(timeout=60)
    assert bench.worker.stop() == 0
    # Celery may run a task twice that it could not acknowledge.
    assert set(noted(dsn)) == set(all_of("running", "afterwards"))
    assert bench.worker.troubles_of_ours() == []


def test_a_redelivered_step_repeats_the_idempotency_keys_of_its_events(shop, dsn, proxied, tmp_path):
    proxy = proxied(RABBITMQ)
    shop.settings["task_acks_late"] = True
    bench = BurstingWorker(shop, dsn)
    bench.burst("late", until=tmp_path / "go")
    lose_connection(proxy, bench)
    # Before it is redelivered: Celery 5.4 lets the second attempt wait for the first.
    (tmp_path / "go").touch()
    wait_until(lambda: bench.worker.log.count("late accepted") == 2, "the step is redelivered", timeout=60)
    assert bench.worker.stop() == 0

    keys = Counter(event["metadata"]["idempotency_key"] for event in messages(dsn, "bursts"))
    assert len(keys) == COUNT + 1
    assert set(keys.values()) == {2}
    assert bench.worker.troubles_of_ours() == []
