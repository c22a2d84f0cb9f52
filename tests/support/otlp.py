"""A collector that takes what OpenTelemetry's exporters send by OTLP over HTTP, and keeps it."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status


class Span(NamedTuple):
    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    kind: str
    status: str


class Point(NamedTuple):
    """A number of one report of a counter."""

    instance: str
    name: str
    is_delta: bool
    attributes: dict[str, Any]
    value: int


class Collector:
    """What has been received so far."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.spans: list[Span] = []
        self.points: list[Point] = []

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = _attributes(sent.resource.attributes)["service.name"]
                self.spans += [
                    Span(
                        service,
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        _attributes(span.attributes),
                        SpanMessage.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                        Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
                    )
                    for scope in sent.scope_spans
                    for span in scope.spans
                ]
        elif path == "/v1/metrics":
            for report in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                instance = _attributes(report.resource.attributes)["service.instance.id"]
                self.points += [
                    Point(instance, metric.name, metric.sum.aggregation_temporality == 1, _attributes(p.attributes), p.as_int)
                    for scope in report.scope_metrics
                    for metric in scope.metrics
                    for p in metric.sum.data_points
                ]


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.take(self.path, gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
