"""The shop with OpenTelemetry's SDK in every child, which appends what it exports to the file TRACED_EXPORTS, a line each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import signals
from opentelemetry import metrics, trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from shop import app, events, pay

__all__ = ["app", "events", "pay"]


@signals.worker_process_init.connect(weak=False)
def configure_sdk(**_: Any) -> None:
    out = Path(os.environ["TRACED_EXPORTS"]).open("a", buffering=1)  # noqa: SIM115  # as long as the child lives
    tracer_provider = TracerProvider()
    exporter = ConsoleSpanExporter(out=out, formatter=lambda span: span.to_json(indent=None) + "\n")
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(tracer_provider)
    metric_exporter = ConsoleMetricExporter(out=out, formatter=lambda data: data.to_json(indent=None) + "\n")
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(metric_exporter, 3_600_000)]))
    CeleryInstrumentor().instrument()
