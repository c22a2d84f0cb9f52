"""Publishing without a worker: from scripts, threads, coroutines, forked and spawned processes. What was accepted arrives."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from queues import messages

CALLER = Path(__file__).parent / "apps" / "caller.py"


def call(how, dsn, other=None, **settings):
    """Run the program; return it, and the ids that it was told.

    Args:
        other: Settings of its second app, where they differ.
    """
    conf = {"broker_url": "memory://", "tasker_events_dsn": dsn, "tasker_events_namespace": "callers"}
    conf |= {f"tasker_events_{key}": value for key, value in settings.items()}
    run = subprocess.run(
        # Newer Pythons warn of a fork beside threads: that such a fork works is what is tested.
        [sys.executable, "-W", "ignore::DeprecationWarning", CALLER, how],
        env={"CALLER_SETTINGS": json.dumps(conf), "CALLER_OTHER_SETTINGS": json.dumps(other)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return run, run.stdout.split()


def arrived(dsn):
    return Counter(event["event_id"] for event in messages(dsn, "callers"))


#: How a program can end, its exit code, and how many events it publishes.
ENDS = {
    "ends_at_once": (0, 1),
    "exits": (3, 1),
    "raises": (1, 1),
    "drains_and_dies": (4, 2),
    "in_an_exit_handler": (0, 2),
    "in_threads": (0, 301),
    "in_a_loop": (0, 21),
    "forks_before_it_publishes": (0, 2),
    "spawns": (0, 61),
    "uses_a_fork_server": (0, 61),
    "uses_forked_processes": (0, 61),
}


@pytest.mark.parametrize("how", ENDS)
def test_every_event_of_a_program_arrives_once_however_it_ends(dsn, how):
    exit_code, count = ENDS[how]

    run, ids = call(how, dsn)

    assert run.returncode == exit_code, run.stderr
    assert arrived(dsn) == Counter(ids)
    assert len(ids) == count
    assert "celery_tasker_events" not in run.stderr


def test_processes_that_are_forked_while_threads_publish_share_nothing(dsn):
    run, ids = call("forks", dsn, command_buffer_size=100_000)

    assert run.returncode == 0, run.stderr
    assert arrived(dsn) == Counter(ids)
    assert len(ids) >= 10 * 20 + 10
    assert "celery_tasker_events" not in run.stderr


@pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="this Python starts no thread at the end of the interpreter")
def test_an_event_that_comes_after_the_end_of_the_plugin_is_waited_for(dsn):
    run, ids = call("after_everything", dsn)

    assert run.returncode == 0, run.stderr
    assert arrived(dsn) == Counter(ids)
    assert len(ids) == 2


@pytest.mark.skipif(sys.version_info[:2] != (3, 12), reason="other Pythons start threads at the end of the interpreter")
def test_an_event_that_comes_too_late_for_this_python_is_refused_and_told(dsn):
    run, ids = call("after_everything", dsn)

    assert arrived(dsn) == {ids[0]: 1}
    assert ids[1] == "None"
    assert "1 outcomes dropped: the interpreter ends" in run.stderr


def test_what_a_daemon_thread_was_told_is_accepted_arrives_although_the_interpreter_ends(dsn):
    run, ids = call("in_a_daemon_thread", dsn, command_buffer_size=100_000, durable_buffer_size=100_000)

    assert run.returncode == 0, run.stderr
    accepted = {event_id for event_id in ids if event_id != "None"}
    # The thread may be ended between the put and the print.
    assert accepted <= set(arrived(dsn))
    assert len(accepted) >= 50
    assert set(arrived(dsn).values()) == {1}


def test_a_correlation_id_of_a_block_flows_into_a_thread_of_a_loop(dsn):
    call("in_a_loop", dsn)

    of_block = [event["payload"] for event in messages(dsn, "callers") if event["metadata"]["correlation_id"] == "by-block"]
    assert of_block == [20]


def test_two_apps_of_one_process_publish_to_their_own_databases_in_their_own_ways(dsn, new_database):
    other_dsn = new_database()
    other = {
        "tasker_events_dsn": other_dsn,
        "tasker_events_namespace": "others",
        "tasker_events_envelope": "cloudevents",
    }

    run, _ = call("has_two_apps", dsn, other)

    assert run.returncode == 0, run.stderr
    assert "celery_tasker_events" not in run.stderr
    own = [(event["event_name"], event["payload"]) for event in messages(dsn, "callers")]
    others = [(event["type"], event["data"]) for event in messages(other_dsn, "others")]
    assert own == [("payment.made", "caller"), ("caller.noted", "this one begins again")]
    assert [name for name, _ in others] == ["payment.made", "caller.noted"]
    assert messages(dsn, "others") == messages(other_dsn, "callers") == []
