"""The instruments of a process whose SDK is a global one, before and after a fork; each test needs an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys

SHOP = """
import os
from celery import Celery
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from celery_tasker_events import DomainEvents, publishes_events

metrics.set_meter_provider(MeterProvider([reader := InMemoryMetricReader()]))
app = Celery("shop", broker="memory://")
events = DomainEvents(app)

@app.task
@publishes_events("payment.processed", delivery_mode="fast")
def pay():
    return 1

events.subscribe("*")(lambda event: None)

def pay_times(count):
    for _ in range(count):
        pay.apply()
    assert events.drain(10)

def told():
    data = reader.get_metrics_data()
    found = {
        metric.name.removeprefix("tasker."): {
            point.attributes.get("channel", "all"): point.value for point in metric.data.data_points
        }
        for scope in data.resource_metrics[0].scope_metrics
        for metric in scope.metrics
        if hasattr(metric.data.data_points[0], "value")
    }
    return found["domain_events.dispatched.total"], found["domain_events.channel_depth"]
"""


def run(*parts: str) -> list[str]:
    # Python 3.12 and newer warn of any fork of a process that has threads, as a worker's children never are.
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", "".join(parts)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.splitlines()


def test_a_forked_child_counts_from_zero_and_its_parent_goes_on() -> None:
    lines = run(
        SHOP,
        """
pay_times(3)
child = os.fork()
if not child:
    pay_times(1)
    print("child", *told(), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
pay_times(1)
print("parent", *told())
""",
    )

    depths = "{'command': 0, 'durable': 0, 'broadcast': 0}"
    assert lines == [f"child {{'all': 1}} {depths}", f"parent {{'all': 4}} {depths}"]


def test_after_close_the_counts_go_on() -> None:
    lines = run(SHOP, "pay_times(2); events.close(5); pay_times(1); print(told()[0])")

    assert lines == ["{'all': 3}"]
