"""The other Celery app with OpenTelemetry's SDK in its worker, which exports each span at once."""

from __future__ import annotations

from typing import Any

from celery.signals import worker_process_init
from crm import app
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

__all__ = ["app", "observe"]


def observe(service: str) -> TracerProvider:
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()
    return provider


@worker_process_init.connect(weak=False)
def set_up(**_: Any) -> None:
    observe("crm")
