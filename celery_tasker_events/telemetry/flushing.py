"""Has OpenTelemetry's providers export what they hold, before the process ends: a recycled child calls nothing of theirs."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator

from celery_tasker_events.telemetry.log import RateLimitedWarning, error_fields
from celery_tasker_events.threads import join_thread, start_thread

__all__ = ["flush_opentelemetry", "holds_telemetry"]

#: The modules that know the global providers, and the functions that return them.
_PROVIDERS = {
    "opentelemetry.trace": "get_tracer_provider",
    "opentelemetry.metrics": "get_meter_provider",
    "opentelemetry._logs": "get_logger_provider",
}

_trouble = RateLimitedWarning("%d times OpenTelemetry could not be flushed, spans or metrics may be lost: %s: %s")

Flush = Callable[[int], object]


def holds_telemetry() -> bool:
    """Whether an SDK is configured in this process that may hold something."""
    return any(_flushes())


def flush_opentelemetry(timeout: float) -> None:
    """Flush the global providers, all at the same time, and wait for it no longer than that many seconds.

    What goes wrong is logged. Nothing is loaded for it, and nothing happens where no SDK is configured.
    """
    deadline = time.monotonic() + timeout
    # On threads of their own, as an exporter heeds no timeout but its own.
    try:
        threads = [start_thread(functools.partial(_flush, flush, timeout), "tasker-events-flush") for flush in _flushes()]
    except RuntimeError:  # at the interpreter's end Python 3.12 starts none; there the SDK's own atexit comes by
        return
    for thread in threads:
        join_thread(thread, max(0.0, deadline - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        _tell(TimeoutError(f"it takes longer than the {timeout:.3g} s that are left"))


def _flushes() -> Iterator[Flush]:
    for name, function in _PROVIDERS.items():
        try:
            flush = getattr(getattr(sys.modules[name], function)(), "force_flush", None)
        except Exception:  # nobody has loaded it, or somebody is about to
            flush = None
        if flush is not None:
            yield flush


def _flush(flush: Flush, timeout: float) -> None:
    try:
        flush(int(timeout * 1000))
    except Exception as error:  # a user's exporter must not disturb the end of a process
        _tell(error)


def _tell(error: Exception) -> None:
    told = error_fields(error)
    _trouble.add(told["error_type"], told["error"], fields=lambda: told)
