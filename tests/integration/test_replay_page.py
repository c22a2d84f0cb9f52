"""The page about replays keeps its word: its blocks are run as they stand there."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from pages import blocks
from replaying import in_queue, replayed
from sending import event, send

BLOCKS = blocks("how-to/replay-events.md")
EVENT = event("payment.failed", 3, correlation_id="order-2")


@pytest.fixture
def environment(dsn, tmp_path):
    """A shell's environment in which both programs and an app ``shop`` are, and a database with an archive."""
    send(dsn, event(payload=1), event(payload=2), EVENT, event("mail.sent", 4), archive=True)
    for name, module in (("celery-tasker-events", "celery_tasker_events.cli.main"), ("celery", "celery.__main__")):
        program = tmp_path / name
        program.write_text(f"#!{sys.executable}\nfrom {module} import main\nmain()\n")
        program.chmod(0o755)
    (tmp_path / "shop.py").write_text(
        textwrap.dedent("""\
        import os
        from celery import Celery
        from celery_tasker_events import DomainEvents

        app = Celery("shop")
        app.conf.tasker_events_dsn = os.environ["DATABASE_URL"]
        events = DomainEvents(app)

        @events.subscribe("payment.*")
        def tell(event):
            print(f"told {event.payload}")
        """)
    )
    return {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{Path(__file__).parents[2]}{os.pathsep}{tmp_path}",
        "DATABASE_URL": dsn,
        "CORRELATION_ID": "order-2",
        "EVENT_ID": EVENT.event_id,
    }


def run(name, environment):
    command = [sys.executable, "-c"] if name.endswith(".py") else ["bash", "-euo", "pipefail", "-c"]
    done = subprocess.run([*command, BLOCKS[name]], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def payloads(dsn):
    return [message["payload"] for message, _ in in_queue(dsn)]


def test_every_block_of_the_page_is_run_by_a_test():
    assert set(BLOCKS) == {"dry-run.sh", "replay.sh", "one.sh", "handler.py", "resume.sh", "bus.sh"}


def test_a_dry_run_prints_what_the_page_shows_and_the_replay_sends_it(environment, dsn):
    assert run("dry-run.sh", environment).splitlines()[:4] == [
        "3 events would be replayed",
        "         1  payment.failed of payments_domain_events",
        "         2  payment.processed of payments_domain_events",
        "The first of them:",
    ]
    assert payloads(dsn) == []
    assert run("replay.sh", environment) == "3 events replayed to the queue\n"
    assert payloads(dsn) == [1, 2, 3]


def test_one_workflow_and_one_event_are_sent(environment, dsn):
    run("one.sh", environment)

    assert payloads(dsn) == [3, 3]


def test_a_handler_knows_a_replay(environment, dsn):
    replay_id = replayed(dsn, "--event-id", EVENT.event_id)["replay_id"]
    other = replayed(dsn, "--event", "payment.processed")["replay_id"]

    assert run("handler.py", environment).splitlines() == [f"{n} is booked again by replay {other}" for n in (1, 2)]
    assert replay_id != other


def test_a_finished_replay_has_nothing_left_to_resume(environment, dsn):
    replay_id = replayed(dsn, "--all")["replay_id"]

    assert run("resume.sh", {**environment, "REPLAY_ID": replay_id}) == "0 events replayed to the queue\n"
    assert len(payloads(dsn)) == 4


def test_the_apps_subscribers_are_called(environment, dsn):
    assert run("bus.sh", environment).splitlines() == ["told 1", "told 2", "told 3", "3 events replayed to the bus"]
    assert payloads(dsn) == []
