"""``domain-events spool``: looks at what waits on disk, publishes what was left there, or throws it away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from queues import messages

from celery_tasker_events.durable.spool.place import spool_path
from celery_tasker_events.durable.spool.spool import Spool, SpoolRow

APPS = Path(__file__).parent / "apps"

NOWHERE = "postgresql://postgres@127.0.0.1:1/none"


@pytest.fixture
def run(tmp_path):
    """Runs a command of the outage app, or with no arguments its program, which publishes ten events."""

    def call(dsn, *arguments, count=10, **settings):
        given = {"dsn": dsn, "spool_dir": str(tmp_path / "spool"), "shutdown_drain_timeout_ms": 500, **settings}
        conf = {f"tasker_events_{key}": value for key, value in given.items()}
        command = (
            ["-m", "celery", "-A", "outage", "domain-events", "spool", *arguments] if arguments else ["outage.py", str(count)]
        )
        environment = {**os.environ, "SHOP_SETTINGS": json.dumps(conf)}
        return subprocess.run(
            [sys.executable, *command], cwd=APPS, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    return call


@pytest.fixture
def left_behind(run, own_postgres):
    """The DSN of a server for which ten events wait on disk."""
    own_postgres.shut_down("immediate")
    assert run(own_postgres.dsn).returncode == 0
    own_postgres.start_again()
    return own_postgres.dsn


def test_show_tells_what_waits(run, left_behind):
    shown = run(left_behind, "show")
    (found,) = json.loads(run(left_behind, "show", "--format", "json").stdout)

    assert "10 events" in shown.stdout
    assert "number.noted" in shown.stdout
    assert found["events"] == 10
    assert found["waiting"] == [{"namespace": "numbers", "event_name": "number.noted", "is_owned": False, "events": 10}]


def test_flush_publishes_what_was_left(run, left_behind):
    flushed = run(left_behind, "flush")

    assert (flushed.returncode, flushed.stdout) == (0, "10 events published or parked as dead letters\n")
    assert [event["payload"] for event in messages(left_behind, "numbers")] == list(range(10))
    assert json.loads(run(left_behind, "show", "--format", "json").stdout)[0]["events"] == 0


def test_flush_says_when_postgres_is_still_away(run):
    run(NOWHERE)
    flushed = run(NOWHERE, "flush", "--timeout", "1", "--format", "json")

    assert flushed.returncode == 1
    assert json.loads(flushed.stdout) == {"done": 0, "running": 0, "left": 10}
    assert "10 events are still there: Postgres did not take them within 1 s" in flushed.stderr
    assert "Traceback" not in flushed.stderr


def test_flush_counts_what_was_left_and_not_what_running_processes_have(run, tmp_path):
    run(NOWHERE)
    running = Spool(spool_path(NOWHERE, str(tmp_path / "spool")), 1_000_000)
    ids = running.add([SpoolRow("number.noted", "numbers", b"{}")] * 5).ids
    # They are published while the command waits.
    publishing = threading.Timer(1.0, running.remove, [ids])
    publishing.start()
    flushed = run(NOWHERE, "flush", "--timeout", "5")
    publishing.join()
    running.close()

    assert flushed.returncode == 1
    assert "0 events published" in flushed.stdout
    assert "10 events are still there" in flushed.stderr


def test_clear_asks_first(run):
    run(NOWHERE)

    assert run(NOWHERE, "clear").returncode == 1
    assert json.loads(run(NOWHERE, "show", "--format", "json").stdout)[0]["events"] == 10
    assert run(NOWHERE, "clear", "--yes").stdout == "10 events thrown away\n"
    assert json.loads(run(NOWHERE, "clear", "--format", "json").stdout) == {"thrown_away": 0}
    assert json.loads(run(NOWHERE, "show", "--format", "json").stdout)[0]["events"] == 0


@pytest.mark.parametrize(
    ("dsn", "settings", "reason"),
    [(None, {}, "tasker_events_dsn is not set"), (NOWHERE, {"spool_max_bytes": 0}, "tasker_events_spool_max_bytes is 0")],
)
def test_an_app_without_a_spool_says_why(run, dsn, settings, reason):
    shown = run(dsn, "show", **settings)

    assert shown.returncode == 1
    assert f"this app has no spool: {reason}" in shown.stderr
