"""The address of a worker's metrics: made only where a port is set, and never a reason for a worker to fail."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from celery_tasker_events import DomainEvents
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.scraping.endpoint import MetricsEndpoint
from celery_tasker_events.settings import Settings
from celery_tasker_events.telemetry.tally import Tally

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
