"""The boot step of a worker: it refuses to start one whose declarations are wrong, and serves its metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import click
from celery import bootsteps

from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.telemetry.tally import Tally

__all__ = ["WorkersPlugin", "worker_step"]


class WorkersPlugin(Protocol):
    """What the boot step needs of the plugin."""

    tally: Tally

    def check_worker(self) -> None: ...
    def start_metrics(self) -> None: ...


def worker_step(find_plugin: Callable[[], WorkersPlugin | None]) -> type[bootsteps.Step]:
    """Return the step for a worker of one app. It checks before a child is forked."""

    class DomainEventsStep(bootsteps.StartStopStep):  # type: ignore[misc]  # celery has no type hints
        name = "celery_tasker_events"

        def __init__(self, worker: Any, **options: Any) -> None:
            super().__init__(worker, **options)
            plugin = find_plugin()
            assert plugin is not None, "the app of a worker keeps its plugin"
            try:
                plugin.check_worker()
            except ConfigurationError as error:
                # Celery's command line shows this without a traceback and exits with 1.
                raise click.ClickException(f"celery_tasker_events can't start:\n{error}") from error
            plugin.tally.open_board()

        def start(self, parent: Any) -> None:
            if plugin := find_plugin():
                plugin.start_metrics()

    return DomainEventsStep
