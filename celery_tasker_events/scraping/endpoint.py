"""The address at which a worker's main process serves its metrics, if a port is set; none otherwise, and no thread."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from celery_tasker_events.errors import Problem, SpoolUnusable
from celery_tasker_events.settings import PREFIX, Settings, masked_dsn
from celery_tasker_events.telemetry.log import error_fields, logger
from celery_tasker_events.telemetry.totals import EventSeries, Totals

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from celery_tasker_events.durable.spool.report import SpoolTotals
    from celery_tasker_events.scraping.families import WorkerCollector

__all__ = ["MetricsEndpoint", "metrics_problems"]


def metrics_problems(settings: Settings) -> list[Problem]:
    """Return what keeps the metrics from being served that only its mending helps against: the library is missing."""
    if settings.metrics_port is None or importlib.util.find_spec("prometheus_client") is not None:
        return []
    return [Problem("needs prometheus_client: pip install 'celery-tasker-events[prometheus]'", f"{PREFIX}metrics_port")]


class MetricsEndpoint:
    """Serves metrics in Prometheus' text format, on threads of its own."""

    def __init__(self) -> None:
        self._server: WSGIServer | None = None
        self._collector: WorkerCollector | None = None

    def start(self, settings: Settings, totals: Callable[[], Totals], declared: Sequence[EventSeries]) -> None:
        """Begin to serve, if a port is set. An address that can't be had is logged, and the worker goes on without.

        Args:
            declared: Series that are told before their first event.
        """
        if settings.metrics_port is None or self._server is not None:
            return
        from prometheus_client import CollectorRegistry, start_http_server

        from celery_tasker_events.scraping.families import WorkerCollector

        # With a registry of its own, it tells nothing of what the application measures, nor that anything of this.
        registry = CollectorRegistry()
        self._collector = WorkerCollector(totals, lambda: _spools(settings), declared)
        registry.register(self._collector)
        host, port = settings.metrics_host, settings.metrics_port
        try:
            self._server, _ = start_http_server(port, host, registry)
        except (OSError, UnicodeError) as error:  # the second: of a name that can't be one of a host
            logger.warning(
                "Metrics are not served: %s:%d can't be had: %s. Each worker of a host needs a port of its own"
                " (tasker_events_metrics_port)",
                host,
                port,
                error,
                extra=error_fields(error),
            )
            return
        logger.info("Metrics are served at http://%s:%d/metrics", host, self._server.server_port)

    def stop(self) -> None:
        """Accept no more scrapes. One that has begun is answered with what is counted by now, whatever is removed then."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            assert self._collector is not None
            self._collector.freeze()

    def after_fork_in_child(self) -> None:
        """Keep no other process from using the port when the parent has ended."""
        server, self._server = self._server, None
        if server is not None:
            server.socket.close()


def _spools(settings: Settings) -> Iterator[tuple[str, SpoolTotals | None]]:
    from celery_tasker_events.durable.spool.place import spool_path
    from celery_tasker_events.durable.spool.report import LOOK_TIMEOUT, spool_totals

    if settings.spool_max_bytes:
        for dsn in settings.dsns:
            try:
                yield masked_dsn(dsn), spool_totals(spool_path(dsn, settings.spool_dir), LOOK_TIMEOUT)
            except SpoolUnusable:
                yield masked_dsn(dsn), None
