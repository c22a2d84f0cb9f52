"""The address of a worker's metrics: made only where a port is set, and never a reason for a worker to fail."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from worker_process import wait_until

from celery_tasker_events import DomainEvents
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.scraping.endpoint import MetricsEndpoint
from celery_tasker_events.settings import Settings
from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.tally import Tally

from ..telemetry.forks import Child

Shop = tuple[Celery, DomainEvents]


def start(**settings: Any) -> MetricsEndpoint:
    endpoint = MetricsEndpoint()
    endpoint.start(Settings(**settings), Tally().totals, [])
    return endpoint


def test_without_a_port_there_is_no_thread() -> None:
    before = threading.active_count()

    start().stop()

    assert threading.active_count() == before


def test_prometheus_client_is_loaded_only_where_a_port_is_set() -> None:
    program = "import sys, celery_tasker_events.scraping.endpoint as e\nprint('prometheus_client' in sys.modules)"

    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert told.stdout.strip() == "False"


@pytest.mark.parametrize("host", ["256.256.256.256", "no-such-host.invalid", "x" * 70])
def test_a_host_that_can_not_be_had_is_a_warning(host: str, caplog: pytest.LogCaptureFixture) -> None:
    start(metrics_port=0, metrics_host=host).stop()

    assert f"Metrics are not served: {host}:0 can't be had" in caplog.text


def test_a_worker_whose_library_is_missing_does_not_start(new_shop: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch) -> None:
    _, events = new_shop(tasker_events_metrics_port=0)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)

    with pytest.raises(ConfigurationError) as caught:
        events.check_worker()

    remedy = "needs prometheus_client: pip install 'celery-tasker-events[prometheus]'"
    assert [str(problem) for problem in caught.value.problems] == [f"tasker_events_metrics_port: {remedy}"]


def test_a_scrape_that_has_begun_is_not_told_zeros_when_the_worker_ends(caplog: pytest.LogCaptureFixture) -> None:
    tally, endpoint = Tally(), MetricsEndpoint()
    tally.open_board()

    def publish() -> None:
        tally.after_fork_in_child()
        tally.sheet.open()
        Counters(tally.sheet).add("published", "a.b", "shop", "durable", 5)

    assert Child(publish).end() == 0
    with caplog.at_level(logging.INFO):
        endpoint.start(Settings(metrics_port=0, spool_max_bytes=0), tally.totals, [])
    port = int(caplog.text.rpartition(":")[2].partition("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as scrape:
        scrape.sendall(b"GET /metrics HTTP/1.0\r\n")
        wait_until(lambda: any("process_request" in thread.name for thread in threading.enumerate()), "it is accepted")

        endpoint.stop()
        tally.remove_board()
        scrape.sendall(b"\r\n")
        answer = scrape.makefile("rb").read().decode()

    assert "200 OK" in answer
    series = 'tasker_domain_events_published_total{delivery_mode="durable",event_name="a.b",namespace="shop"}'
    assert f"{series} 5.0" in answer
