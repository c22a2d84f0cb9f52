"""The pytest plugin: fixtures for tests of tasks that publish events. It loads Celery when the first is used."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from celery_tasker_events.testing.embedded_postgres import EmbeddedPostgres
    from celery_tasker_events.testing.real_pgmq import RealPgmq
    from celery_tasker_events.testing.recorded_events import RecordedEvents

__all__ = ["domain_events", "real_pgmq", "real_pgmq_server"]

_EVENTS: pytest.StashKey[RecordedEvents] = pytest.StashKey()
_END: pytest.StashKey[contextlib.ExitStack] = pytest.StashKey()
_FAILED: pytest.StashKey[bool] = pytest.StashKey()


@pytest.fixture
def domain_events(request: pytest.FixtureRequest) -> RecordedEvents:
    """Records the domain events of this test's tasks; nothing is sent anywhere."""
    return _begin(request.node)


@pytest.fixture(scope="session")
def real_pgmq_server() -> Iterator[EmbeddedPostgres]:
    """An embedded Postgres that serves all tests of this process; needs the extra ``[testing]``."""
    from celery_tasker_events.testing.real_pgmq import started_server

    with contextlib.ExitStack() as end:
        try:
            server = end.enter_context(started_server())
        except ModuleNotFoundError as error:
            if error.name != "embedded_postgres":
                raise
            pytest.fail(str(error), pytrace=False)
        yield server


@pytest.fixture
def real_pgmq(request: pytest.FixtureRequest, real_pgmq_server: EmbeddedPostgres) -> Iterator[RealPgmq]:
    """A fresh database with the real PGMQ; the durable events of this test's process go there."""
    if _EVENTS in request.node.stash:
        pytest.fail("domain_events keeps every event, so none would reach real_pgmq: use one of the two in a test", pytrace=False)
    from celery_tasker_events.testing.real_pgmq import served

    with served(real_pgmq_server) as database:
        yield database


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    # Before all other fixtures: a worker that one of them starts needs no database then, and ends while it is recorded.
    if "domain_events" in getattr(item, "fixturenames", ()):
        _begin(item)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    try:
        result = yield
    except BaseException:
        if (events := item.stash.get(_EVENTS, None)) is not None:
            item.add_report_section("call", "domain events", events.summary())
            item.stash[_FAILED] = True
        raise
    if (events := item.stash.get(_EVENTS, None)) is not None:
        with _without_traceback():
            events.check()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    try:
        return (yield)
    finally:
        if (end := item.stash.get(_END, None)) is not None:
            del item.stash[_END], item.stash[_EVENTS]
            # A test fails once: dead letters stand in its report already.
            with contextlib.suppress(AssertionError) if item.stash[_FAILED] else _without_traceback():
                end.close()


@contextlib.contextmanager
def _without_traceback() -> Iterator[None]:
    """What happened long before has nothing to do with the lines that look for it."""
    try:
        yield
    except AssertionError as error:
        pytest.fail(str(error), pytrace=False)


def _begin(item: pytest.Item) -> RecordedEvents:
    if (begun := item.stash.get(_EVENTS, None)) is not None:
        return begun
    from celery_tasker_events.testing.recorded_events import recorded

    # Some plugins run a test again that has failed.
    item.stash[_FAILED] = False
    end = contextlib.ExitStack()
    events = item.stash[_EVENTS] = end.enter_context(recorded())
    item.stash[_END] = end
    return events
