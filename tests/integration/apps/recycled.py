"""Tasks with and without events whose children hold their spans back, and append to the file TRACED_EXPORTS what they export.

RECYCLED_EXPORTER may be "hanging" or "raising".
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from celery import Celery, signals
from opentelemetry import metrics, trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from celery_tasker_events import DomainEvents, publishes_events

#: Far longer than the test runs: what is exported was flushed.
NEVER_MS = 3_600_000

app = Celery("recycled")
app.conf.update(json.loads(os.environ["SHOP_SETTINGS"]))
events = DomainEvents(app)


@app.task(name="shop.pay")
@publishes_events("payment.processed", namespace="payments")
def pay(order: int) -> dict[str, int]:
    return {"order": order}


@app.task(name="shop.silent")
def silent() -> None:
    """It has no events, so this package has nothing to do in its process."""


class AppendingExporter(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if os.environ.get("RECYCLED_EXPORTER") == "hanging":
            threading.Event().wait()
        if os.environ.get("RECYCLED_EXPORTER") == "raising":
            raise ConnectionError("no collector")
        _append("".join(span.to_json(indent=None) + "\n" for span in spans))
        return SpanExportResult.SUCCESS


def _append(text: str) -> None:
    # One write, so that lines of several children do not mix.
    descriptor = os.open(os.environ["TRACED_EXPORTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, text.encode())
    os.close(descriptor)


@signals.worker_process_init.connect(weak=False)
def configure_sdk(**_: Any) -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(AppendingExporter(), schedule_delay_millis=NEVER_MS))
    trace.set_tracer_provider(provider)
    out = Path(os.environ["TRACED_EXPORTS"]).open("a", buffering=1)  # noqa: SIM115  # as long as the child lives
    exporter = ConsoleMetricExporter(out=out, formatter=lambda data: data.to_json(indent=None) + "\n")
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(exporter, NEVER_MS)]))
    CeleryInstrumentor().instrument()
