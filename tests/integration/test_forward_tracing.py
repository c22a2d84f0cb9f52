"""A forwarder goes on with the trace that published an event: a span of its own, and what it publishes names that one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from consuming import event, send_raw
from forwarding import BrokerQueue
from http_receiver import Receiver
from kombu import Connection
from otlp import Collector, Span, collecting
from services import RABBITMQ, url_of
from worker_process import WorkerProcess, wait_until

from celery_tasker_events.envelope import by_name

APPS = Path(__file__).parent / "apps"
TRACE, PUBLISHED = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{PUBLISHED}-01", "tracestate": "shop=1", "x-pgmq-group": "w"}

# In a process of its own: a tracer provider is for a whole process and for good.
PROGRAM = """
import json, sys
from traced_crm import observe
from celery_tasker_events.consumer.forwarder import Forwarder
from celery_tasker_events.consumer.targets import TargetOptions

provider = observe("forwarder")
dsn, url, options, more = sys.argv[1:]
Forwarder(dsn, "payments", to=url, options=TargetOptions(**json.loads(options)), **json.loads(more)).run(until_empty=True)
provider.shutdown()
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def publish(dsn: str, headers: str | None = json.dumps(HEADERS)) -> str:
    sent = event(1)
    send_raw(dsn, by_name("native").to_message(sent).decode(), headers)
    return sent.event_id


def environment(collector: Collector) -> dict[str, str]:
    told = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address, "NO_PROXY": "127.0.0.1", "CRM_BROKER": "memory://"}
    return {**told, "CRM_QUEUE": "none", "PYTHONPATH": str(APPS)}


def forward(collector: Collector, dsn: str, url: str, options: dict[str, str] | None = None, **more: object) -> list[Span]:
    """Forward all there is, and return the spans of it."""
    arguments = [dsn, url, json.dumps(options or {}), json.dumps(more)]
    variables = {**os.environ, **environment(collector)}
    subprocess.run([sys.executable, "-c", PROGRAM, *arguments], env=variables, check=True, timeout=60)
    return [span for span in collector.spans if span.service == "forwarder"]


def test_a_webhook_gets_the_span_of_the_forwarder_in_the_trace_of_the_event(dsn, receiver: Receiver, collector):
    event_id = publish(dsn)

    [span] = forward(collector, dsn, receiver.url)

    assert (span.name, span.trace_id, span.parent_id) == ("forward payment.processed", TRACE, PUBLISHED)
    assert span.kind == "PRODUCER"
    assert span.attributes["messaging.system"] == "http"
    assert span.attributes["messaging.operation.type"] == "send"
    assert span.attributes["messaging.message.id"] == span.attributes["event_id"] == event_id
    assert span.attributes["messaging.destination.name"] + "/hook" == receiver.url
    [(headers, _, _)] = receiver.requests
    assert headers["traceparent"] == f"00-{TRACE}-{span.span_id}-01"
    assert headers["tracestate"] == "shop=1"


def test_a_message_of_a_broker_has_it_in_its_headers(dsn, collector):
    queue = BrokerQueue(url_of(RABBITMQ))
    publish(dsn)
    try:
        [span] = forward(collector, dsn, queue.url, {"exchange": queue.name, "queue": queue.name})
        queue.receive()
    finally:
        queue.delete()

    assert (span.name, span.trace_id, span.parent_id) == ("forward payment.processed", TRACE, PUBLISHED)
    assert (span.attributes["messaging.system"], span.attributes["messaging.destination.name"]) == ("rabbitmq", queue.name)
    [told] = queue.properties
    assert told["headers"]["traceparent"] == f"00-{TRACE}-{span.span_id}-01"


def test_the_task_of_another_app_goes_on_with_it(dsn, collector, tmp_path):
    broker, name = url_of(RABBITMQ), f"crm_{uuid.uuid4().hex}"
    variables = {**environment(collector), "CRM_BROKER": broker, "CRM_QUEUE": name, "CRM_OUTPUT": str(tmp_path / "booked")}
    publish(dsn)
    worker = WorkerProcess("traced_crm", APPS, tmp_path / "crm.log", variables, pool="solo").start()
    try:
        forward(collector, dsn, "celery://crm.book", {"broker": broker, "queue": name})
        wait_until(lambda: any(span.service == "crm" for span in collector.spans), "the task's span is exported")
    finally:
        worker.kill()
        with Connection(broker) as connection:
            connection.channel().queue_delete(name)

    found, parent = [], PUBLISHED
    while children := [span for span in collector.spans if span.parent_id == parent]:
        [span] = children
        assert span.trace_id == TRACE
        found.append((span.service, span.name))
        parent = span.span_id
    # The second is made by Celery's instrumentation in the forwarder's process.
    expected = [("forwarder", "forward payment.processed"), ("forwarder", "apply_async/crm.book"), ("crm", "run/crm.book")]
    assert found == expected


def test_an_event_without_a_trace_begins_one(dsn, receiver, collector):
    publish(dsn, None)

    [span] = forward(collector, dsn, receiver.url)

    assert span.parent_id == ""
    assert receiver.requests[0][0]["traceparent"].startswith(f"00-{span.trace_id}-{span.span_id}-")


def test_an_outage_of_the_target_is_inside_of_one_span_and_each_refusal_has_its_own(dsn, receiver, collector):
    receiver.answers = {1: [503, 503, 500, 422]}
    publish(dsn)

    first, second = forward(collector, dsn, receiver.url)

    assert [span.attributes["attempt"] for span in (first, second)] == [1, 2]
    assert [(span.attributes["error.type"], span.status) for span in (first, second)] == [
        ("NotNow", "ERROR"),
        ("Rejected", "ERROR"),
    ]
    sent = [headers["traceparent"].split("-")[2] for headers, _, _ in receiver.requests]
    assert sent == [first.span_id] * 3 + [second.span_id]
