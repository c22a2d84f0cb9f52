"""Each unit test gets Celery, and what this package keeps for the whole process, as they were before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import celery._state
import hypothesis
import pytest
from celery import Celery, signals

from celery_tasker_events import DomainEvents, declaration
from celery_tasker_events.bus.registry import shared_subscriptions

# A busy machine makes single examples slow, and a failure must be the same one for everybody.
hypothesis.settings.register_profile("unit", deadline=None, max_examples=60, derandomize=True, database=None)
hypothesis.settings.load_profile("unit")

_SIGNALS = (
    signals.task_received,
    signals.task_prerun,
    signals.task_success,
    signals.task_failure,
    signals.task_retry,
    signals.task_revoked,
    signals.worker_process_shutdown,
    signals.worker_shutdown,
)

NewShop = Callable[..., tuple[Celery, DomainEvents]]


@pytest.fixture(autouse=True)
def process_as_before() -> Iterator[None]:
    receivers = [list(signal.receivers) for signal in _SIGNALS]
    finalizers = set(celery._state._on_app_finalizers)
    # A shared task goes to every finalized app of the process, and other folders' plugins have made some.
    apps = set(celery._state._get_active_apps())
    for app in apps:
        celery._state._deregister_app(app)
    current_app = celery._state._tls.current_app
    join_will_block = celery._state.task_join_will_block()
    proxies = list(declaration._shared_proxies)
    needs_starts = declaration.decorated.needs_starts
    declaration.decorated.needs_starts = False
    subscriptions = shared_subscriptions._subscriptions
    yield
    for signal, before in zip(_SIGNALS, receivers, strict=True):
        signal.receivers[:] = before
        signal.sender_receivers_cache.clear()
    for app in set(celery._state._get_active_apps()):
        celery._state._deregister_app(app)
    for app in apps:
        celery._state._register_app(app)
    celery._state._on_app_finalizers.clear()
    celery._state._on_app_finalizers.update(finalizers)
    celery._state._tls.current_app = current_app
    # A worker that a test has made in this process forbids everybody to wait for a result.
    celery._state._set_task_join_will_block(join_will_block)
    declaration._shared_proxies[:] = proxies
    declaration.decorated.needs_starts = needs_starts
    shared_subscriptions._subscriptions = subscriptions


@pytest.fixture
def new_shop() -> Iterator[NewShop]:
    """Makes a Celery app with domain events, and ends what these started."""
    plugins: list[DomainEvents] = []

    def create(name: str = "shop", **conf: Any) -> tuple[Celery, DomainEvents]:
        app = Celery(name, broker="memory://", backend="cache+memory://")
        app.conf.update(conf)
        plugins.append(DomainEvents(app))
        return app, plugins[-1]

    yield create
    for plugin in plugins:
        plugin.close(5)


@pytest.fixture
def shop(new_shop: NewShop) -> tuple[Celery, DomainEvents]:
    return new_shop()


@pytest.fixture
def write_template(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a task template and returns its path."""

    def write(text: str, name: str = "template.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def our_threads() -> Callable[[], set[str]]:
    """Names of this package's threads that run now and were not there when the test began."""
    before = set(threading.enumerate())
    return lambda: {t.name for t in threading.enumerate() if t not in before and t.name.startswith("tasker-events")}
