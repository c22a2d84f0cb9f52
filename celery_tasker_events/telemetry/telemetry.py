"""Telemetry: the one object that the core tells how its events fare; it does nothing where nobody uses OpenTelemetry."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from celery_tasker_events.telemetry.counters import Counters
from celery_tasker_events.telemetry.durations import TimedTrail
from celery_tasker_events.telemetry.log import RateLimitedWarning, error_fields
from celery_tasker_events.telemetry.sheet import Sheet
from celery_tasker_events.telemetry.trail import NO_TRAIL, Trail

if TYPE_CHECKING:
    from celery_tasker_events.telemetry.otel import Otel

__all__ = ["Telemetry", "import_otel"]


def import_otel() -> bool:
    """Import what tells OpenTelemetry, if somebody has loaded that, and return whether it is there.

    Only who has loaded OpenTelemetry can have configured it: it is never loaded for its own sake.
    """
    if "opentelemetry" not in sys.modules:
        return False
    try:
        import celery_tasker_events.telemetry.otel  # noqa: F401  # only loaded here
    except ImportError:  # some other part of OpenTelemetry's namespace is loaded, without its API
        return False
    return True


class Telemetry:
    """What one runtime tells OpenTelemetry, once somebody in this process has loaded it.

    Args:
        counters: They are read whenever metrics are collected; counting itself costs nothing more.
        channels: How many items wait in each buffer, by name: called on the thread that collects metrics.
        otel: For tests; by default that of the process.
        sheet: Where counters and buffers are written down for the other processes of a worker.
        keeps_durations: Whether it is written down there how long events take.
    """

    def __init__(
        self,
        counters: Counters,
        channels: Mapping[str, Callable[[], int]] | None = None,
        otel: Otel | None = None,
        sheet: Sheet | None = None,
        *,
        keeps_durations: bool = False,
    ) -> None:
        self._sheet = sheet or Sheet()
        self._keeps_durations = keeps_durations
        self._counters = counters
        self._channels = channels or {}
        self._given_otel = otel
        self._otel: Otel | None = None
        self._broken = False
        self._trouble = RateLimitedWarning("%d events without telemetry: OpenTelemetry failed: %s: %s")

    def attach(self) -> None:
        """Report the counters and buffers from now on: to the worker, and to OpenTelemetry if somebody has loaded it by now.

        Not to be called on a task's thread: the first time it makes a file.
        """
        self._sheet.open()
        if self._otel is None:
            try:
                self._find_otel()
            except Exception as error:
                _tell(self._trouble, error)

    def trail(self, fields: Mapping[str, Any], fired_at: float, span_context: Any) -> Trail:
        """Begin to follow an event. OpenTelemetry is told of it where :meth:`attach` has found it.

        Args:
            fields: Its log fields.
            fired_at: POSIX timestamp in seconds of its outcome, from which its duration counts.
            span_context: What :func:`~celery_tasker_events.telemetry.trail.current_span_context` said there.
        """
        trail = NO_TRAIL if self._otel is None else self._otel_trail(self._otel, fields, fired_at, span_context)
        return TimedTrail(trail, self._sheet, fields, fired_at) if self._keeps_durations else trail

    def _otel_trail(self, otel: Otel, fields: Mapping[str, Any], fired_at: float, span_context: Any) -> Trail:
        try:
            return _Guarded(otel.trail(fields, fired_at, span_context), self._trouble)
        except Exception as error:  # a user's sampler or span processor must not cost an event
            _tell(self._trouble, error)
            return NO_TRAIL

    def close(self) -> None:
        """Tell nothing about the buffers any more; what was counted stays."""
        if self._otel is not None:
            self._otel.forget(self._channels)

    def _find_otel(self) -> Otel | None:
        # It may be loaded at any time, so it is looked for until it is there.
        if self._given_otel is None:
            if self._broken or "opentelemetry" not in sys.modules:
                return None
            self._broken = not import_otel()
            if self._broken:
                return None
        from celery_tasker_events.telemetry.otel import otel_of_process

        self._otel = self._given_otel or otel_of_process()
        self._otel.watch(self._counters, self._channels)
        return self._otel


class _Guarded(Trail):
    """A trail whose errors are told and go no further."""

    def __init__(self, trail: Trail, trouble: RateLimitedWarning) -> None:
        self._trail = trail
        self._trouble = trouble
        self.traceparent = trail.traceparent

    def published(self, message_id: int | None = None) -> None:
        try:
            self._trail.published(message_id)
        except Exception as error:
            _tell(self._trouble, error)

    def spooled(self) -> None:
        try:
            self._trail.spooled()
        except Exception as error:
            _tell(self._trouble, error)

    def failed(self, stage: str, error: BaseException | None = None) -> None:
        try:
            self._trail.failed(stage, error)
        except Exception as telemetry_error:
            _tell(self._trouble, telemetry_error)


def _tell(trouble: RateLimitedWarning, error: Exception) -> None:
    told = error_fields(error)
    trouble.add(told["error_type"], told["error"], fields=lambda: told)
