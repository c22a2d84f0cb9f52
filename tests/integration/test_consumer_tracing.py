"""The handling of an event is a span below the one that published it, where OpenTelemetry is used."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from consuming import event, send_raw

from celery_tasker_events.envelope import by_name

# In a process of its own: a tracer provider is for a whole process and for good.
PROGRAM = """
import asyncio, json, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from celery_tasker_events.consumer import Consumer

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
consumer = Consumer(sys.argv[1], "payments", max_attempts=2, backoff=lambda attempt: 0)
current = []

@consumer.on("*", name="plain", with_delivery=True)
def plain(event, delivery):
    current.append(trace.get_current_span().get_span_context().span_id)
    if delivery.attempt == 1:
        raise RuntimeError("not yet")

@consumer.on("*", name="coroutine")
async def coroutine(event):
    await asyncio.sleep(0)
    current.append(trace.get_current_span().get_span_context().span_id)

consumer.run(until_empty=True)
spans = exporter.get_finished_spans()
print(json.dumps({
    "current": [span_id in {span.context.span_id for span in spans} for span_id in current],
    "spans": [
        {"name": span.name, "kind": span.kind.name, "status": span.status.status_code.name,
         "trace": f"{span.context.trace_id:032x}", "parent": span.parent and f"{span.parent.span_id:016x}",
         "attributes": dict(span.attributes)}
        for span in spans
    ],
}))
"""


def spans_of(dsn: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, dsn], env=os.environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_attempt_is_a_span_of_the_trace_that_published_the_event_and_handlers_are_inside(dsn):
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-pgmq-group": "w"}
    send_raw(dsn, by_name("native").to_message(event(1)).decode(), json.dumps(headers))

    told = spans_of(dsn)

    assert told["current"] == [True, True, True]
    first, second = told["spans"]
    assert (first["name"], first["kind"], first["status"]) == ("process payment.processed", "CONSUMER", "ERROR")
    assert (second["status"], second["attributes"]["attempt"]) == ("UNSET", 2)
    for span in (first, second):
        assert span["trace"] == "0af7651916cd43dd8448eb211c80319c"
        assert span["parent"] == "b7ad6b7169203331"
    assert second["attributes"]["messaging.destination.name"] == "payments_domain_events"
    assert second["attributes"]["messaging.message.id"] == "1"


@pytest.mark.parametrize("headers", [None, '{"traceparent": 5}', '{"traceparent": "nonsense"}', "[]"])
def test_headers_that_name_no_trace_begin_a_new_one(dsn, headers):
    send_raw(dsn, by_name("native").to_message(event(1)).decode(), headers)

    assert [span["parent"] for span in spans_of(dsn)["spans"]] == [None, None]
