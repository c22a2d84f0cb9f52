"""OpenTelemetry's providers are flushed at the end of a process: all that are configured, and no longer than there is time."""

from __future__ import annotations

import logging
import sys
import threading
import types
from collections.abc import Callable, Iterator

import pytest

from celery_tasker_events.telemetry import flushing
from celery_tasker_events.telemetry.flushing import flush_opentelemetry, holds_telemetry


@pytest.fixture(autouse=True)
def fresh_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flushing, "_trouble", flushing.RateLimitedWarning("%d not flushed: %s: %s"))


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts providers with these flushes in place of OpenTelemetry's modules; without any, there are none."""
    functions = {
        "opentelemetry.trace": "get_tracer_provider",
        "opentelemetry.metrics": "get_meter_provider",
        "opentelemetry._logs": "get_logger_provider",
    }

    def make(**flushes: Callable[[int], object]) -> None:
        for name, function in functions.items():
            flush = flushes.get(name.rpartition(".")[2].strip("_"))
            provider = types.SimpleNamespace(**({} if flush is None else {"force_flush": flush}))
            module = types.ModuleType(name)
            setattr(module, function, lambda provider=provider: provider)
            monkeypatch.setitem(sys.modules, name, module)

    return make


def test_every_provider_is_flushed_with_the_time_that_is_left(configure: Callable[..., None]) -> None:
    told: list[tuple[str, int]] = []
    configure(**{name: lambda ms, name=name: told.append((name, ms)) for name in ("trace", "metrics", "logs")})

    assert holds_telemetry()
    flush_opentelemetry(30)

    assert sorted(told) == [("logs", 30_000), ("metrics", 30_000), ("trace", 30_000)]


def test_without_an_sdk_nothing_is_flushed(configure: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    configure()

    assert not holds_telemetry()
    flush_opentelemetry(30)

    assert caplog.records == []


def test_where_opentelemetry_is_not_loaded_it_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)

    assert not holds_telemetry()
    flush_opentelemetry(30)

    assert not [name for name in sys.modules if name.startswith("opentelemetry")]


def test_a_provider_that_hangs_holds_up_neither_the_others_nor_the_process(
    configure: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    released, others = threading.Event(), threading.Event()
    configure(trace=lambda _: released.wait(), metrics=lambda _: others.set())

    with caplog.at_level(logging.WARNING, "celery_tasker_events"):
        flush_opentelemetry(0.05)

    assert not released.is_set()
    assert others.wait(30)
    assert "TimeoutError: it takes longer than the 0.05 s that are left" in caplog.text
    released.set()


def test_an_error_is_told_once_and_goes_no_further(configure: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: int) -> None:
        raise ConnectionError("no collector")

    configure(trace=fail, metrics=fail)
    flush_opentelemetry(30)
    flush_opentelemetry(30)

    [record] = caplog.records
    assert record.getMessage() == "1 not flushed: ConnectionError: no collector"
    assert vars(record)["error_type"] == "ConnectionError"
