"""``domain-events replay`` of an app: to its queues, and with --bus to its subscribers, in the command's own process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from replaying import in_queue
from sending import event, send

APPS = Path(__file__).parent / "apps"


@pytest.fixture
def run(dsn):
    def call(*arguments, refused=()):
        environment = {**os.environ, "SHOP_SETTINGS": json.dumps({"tasker_events_dsn": dsn}), "REFUSED": json.dumps(refused)}
        command = [sys.executable, "-m", "celery", "-A", "replayed", "domain-events", "replay", *arguments]
        return subprocess.run(command, cwd=APPS, env=environment, capture_output=True, text=True, timeout=120)

    return call


def test_subscribers_are_called_in_order_and_the_queue_stays_empty(run, dsn):
    send(dsn, *(event(payload=number) for number in range(50)), event("mail.sent", 50), archive=True)

    done = run("--all", "--bus")

    assert done.returncode == 0, done.stderr
    told = re.findall(r"^told (\d+) of (\S+)$", done.stdout, re.MULTILINE)
    assert [int(number) for number, _ in told] == list(range(50))
    [replay_id] = {replay_id for _, replay_id in told}
    assert f"--resume {replay_id}" in done.stderr
    assert done.stdout.endswith("51 events replayed to the bus\n")
    assert in_queue(dsn) == []


def test_a_subscriber_that_fails_is_the_exit_code_and_the_others_get_all(run, dsn):
    send(dsn, *(event(payload=number) for number in range(5)), archive=True)

    done = run("--all", "--bus", "--format", "json", refused=[1, 3])

    assert done.returncode == 1
    assert "2 calls of subscribers failed" in done.stderr
    assert done.stderr.count("failed: LookupError: no such account") == 2
    *told, said = done.stdout.splitlines()
    assert [line.split()[1] for line in told] == ["0", "1", "2", "3", "4"]
    assert (json.loads(said)["events"], json.loads(said)["failed"]) == (5, 2)


def test_a_replay_to_one_side_is_not_resumed_to_another(run, dsn):
    send(dsn, event(payload=1), archive=True)
    replay_id = json.loads(run("--all", "--format", "json").stdout)["replay_id"]

    refused = run("--resume", replay_id, "--bus")

    assert refused.returncode == 1
    assert "goes to the queue, not to the bus" in refused.stderr
    assert len(in_queue(dsn)) == 1
