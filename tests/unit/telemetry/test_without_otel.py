"""Where nobody uses OpenTelemetry, nothing of it is loaded; each test needs an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys

from celery_tasker_events.envelope import by_name

from ..making import make_event

BODY = by_name("native").to_message(make_event()).decode()

EVENTS = """
import sys
from celery import Celery
from celery_tasker_events import DomainEvents, publishes_events

app = Celery("shop", broker="memory://")
events = DomainEvents(app)
heard = []

@app.task
@publishes_events("payment.processed", delivery_mode="fast")
def pay():
    return 1

events.subscribe("*")(heard.append)
"""


def run(*parts: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", "".join(parts)], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.strip()


def test_publishing_loads_no_opentelemetry_by_itself() -> None:
    told = run(
        EVENTS,
        "pay.apply(); assert events.drain(10)\n",
        "print(len(heard), [name for name in sys.modules if name.startswith('opentelemetry')])",
    )

    assert told == "1 []"


def test_consuming_and_forwarding_load_no_opentelemetry_by_themselves() -> None:
    told = run(
        "import datetime, sys\n",
        "from celery_tasker_events.consumer.delivery import Message, open_message\n",
        "from celery_tasker_events.consumer.tracing import continuing, processing, sending\n",
        f"delivery = open_message(Message('q', 1, 1, datetime.datetime.now(), {BODY!r}, None))\n",
        "sent = sending(delivery, 'http', 'here')\n",
        "with processing(delivery), continuing(delivery): sent.end(ValueError())\n",
        "print(sent.delivery is delivery, [name for name in sys.modules if name.startswith('opentelemetry')])",
    )

    assert told == "True []"


def test_publishing_works_where_opentelemetry_is_not_installed() -> None:
    told = run(
        "import sys; sys.modules['opentelemetry'] = sys.modules['opentelemetry.trace'] = None\n",
        EVENTS,
        "pay.apply(); assert events.drain(10); print(len(heard))",
    )

    assert told == "1"


def test_publishing_works_where_only_another_part_of_the_namespace_is_there() -> None:
    told = run(
        "import sys, types; sys.modules['opentelemetry'] = types.ModuleType('opentelemetry')\n",
        EVENTS,
        "pay.apply(); pay.apply(); assert events.drain(10); print(len(heard))",
    )

    assert told == "2"


def test_without_an_sdk_the_api_alone_changes_nothing() -> None:
    told = run(
        "import opentelemetry.trace\n",
        EVENTS,
        "pay.apply(); assert events.drain(10); print(len(heard))",
    )

    assert told == "1"


def test_an_sdk_that_is_configured_after_the_first_event_sees_the_next_and_all_counts() -> None:
    told = run(
        EVENTS,
        "pay.apply(); assert events.drain(10)\n",
        """
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
reader, exporter = InMemoryMetricReader(), InMemorySpanExporter()
pay.apply(); assert events.drain(10)
metrics.set_meter_provider(MeterProvider([reader]))
trace.set_tracer_provider(provider := TracerProvider())
provider.add_span_processor(SimpleSpanProcessor(exporter))
pay.apply(); assert events.drain(10)
print([span.name for span in exporter.get_finished_spans()])
for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics:
    for metric in scope.metrics:
        if metric.name == "tasker.domain_events.dispatched.total":
            print(scope.scope.name, [point.value for point in metric.data.data_points])
""",
    )

    assert told.splitlines() == ["['publish payment.processed']", "tasker [3]"]
