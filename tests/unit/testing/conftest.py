"""Runs pytest inside of a test, with the plugin as an installed package brings it."""

from __future__ import annotations

import configparser
from collections.abc import Callable
from pathlib import Path

import pytest

from celery_tasker_events.testing import plugin

ROOT = Path(__file__).parents[3]

SHOP = """
from celery import Celery
from celery_tasker_events import DomainEvents, publishes_events

app = Celery("shop", set_as_current=False)
app.conf.task_always_eager = True
events = DomainEvents(app)

@app.task(shared=False)
@publishes_events(
    "payment.processed",
    namespace="payments",
    schema={"type": "object", "properties": {"amount": {"type": "number"}}},
)
def pay(amount):
    return {"amount": amount}
"""

Run = Callable[..., pytest.RunResult]

# pytest-celery's plugin has fixtures of the same names as Celery's own, and needs Docker.
_ALWAYS = ("-p", "no:celery", "-W", "error")


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Runs a test module beside the shop above, in this process."""
    pytester.makepyfile(shop=SHOP)

    def run(text: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(test_shop=text)
        # As a module, and not by ``-p``: pytest warns there of one that is imported already, and not by its own importer.
        return pytester.runpytest_inprocess(*_ALWAYS, *arguments, plugins=[plugin])

    return run


@pytest.fixture
def run_installed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs it in a process of its own, where our entry point is installed."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    metadata = pytester.mkdir("installed") / "tasker_events_plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tasker-events-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[pytest11]\n{config['options.entry_points']['pytest11'].strip()}\n")
    monkeypatch.setenv("PYTHONPATH", f"{metadata.parent}:{ROOT}")
    pytester.makepyfile(shop=SHOP)

    def run(text: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(test_shop=text)
        return pytester.runpytest_subprocess(*_ALWAYS, *arguments)

    return run
