"""A password in the DSN is in no log line, no answer and no command's output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

APPS = Path(__file__).parent / "apps"

SECRET = "hunter2hunter2"

DSN = f"postgresql://shop:{SECRET}@127.0.0.1:1/none"


def command(settings, *arguments):
    environment = {**os.environ, "SHOP_SETTINGS": json.dumps({**settings, "tasker_events_dsn": DSN})}
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "shop", *arguments],
        cwd=APPS,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def test_a_worker_that_can_not_connect_does_not_tell_the_password(shop):
    worker = shop.start(dsn=DSN, shutdown_drain_timeout_ms=500)
    shop.send("pay", 1).get(timeout=30)

    told = command(shop.settings, "inspect", "conf")
    worker.stop()

    assert "tasker_events_dsn" in told
    assert SECRET not in told
    assert "can't be used yet" in worker.log
    assert SECRET not in worker.log


def test_no_command_tells_it(shop):
    for arguments in (("report",), ("domain-events", "setup"), ("domain-events", "spool", "show"), ("domain-events", "catalog")):
        told = command(shop.settings, *arguments)
        assert told
        assert SECRET not in told, arguments
