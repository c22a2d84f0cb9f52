"""``domain-events status`` and ``celery inspect domain_events``: the same sums, from the command line."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from queues import messages, names
from remote import ask, celery
from worker_process import wait_until

APPS = Path(__file__).parent / "apps"

ONE, TWO = "one@test", "two@test"


@pytest.fixture(scope="module")
def workers(module_shop, new_database):
    """Two workers that one task each has been sent to; one of them is busy."""
    dsn = new_database()
    shop = module_shop
    shop.start("-n", ONE, "-Q", "one", dsn=dsn)
    shop.start("-n", TWO, "-Q", "two", "-c", "1", app="endings", dsn=dsn)
    for order in range(3):
        shop.client.send_task("shop.pay", [order], queue="one").get(timeout=60)
    shop.client.send_task("endings.burst", [5], queue="two").get(timeout=60)
    shop.client.send_task("endings.too_long", queue="two", time_limit=3600)
    wait_until(lambda: ask(shop.client, ONE)["totals"]["published"] == 12, "one has published")
    wait_until(lambda: ask(shop.client, ONE)["totals"]["dispatched"] == 12, "all of one is heard")
    wait_until(lambda: ask(shop.client, TWO)["totals"]["published"] == 6, "two has published")
    wait_until(lambda: shop.client.control.inspect(timeout=30, destination=[TWO]).active()[TWO], "two is busy")
    yield shop, dsn
    shop.kill()


def run(shop, *arguments, app="shop"):
    return celery(app, APPS, {**shop.settings, "tasker_events_dsn": None}, *arguments)


def status(shop, *arguments):
    return run(shop, "domain-events", "status", "--destination", f"{ONE},{TWO}", "--timeout", "60", *arguments)


def rows(table):
    """The cells of each line that is below the headings."""
    return [line.split() for line in table.splitlines()[1:]]


def test_json_has_the_answer_of_each_worker_the_busy_one_included(workers):
    shop, dsn = workers

    result = status(shop, "--format", "json")

    assert result.returncode == 0, result.stderr
    answers = json.loads(result.stdout)
    assert list(answers) == [ONE, TWO]
    assert answers[ONE]["totals"]["published"] == len(messages(dsn, "payments")) + len(messages(dsn, "audit")) == 12
    assert answers[TWO]["totals"]["published"] == names(messages(dsn, "bursts")).count("burst.noted") + 1 == 6
    assert answers[ONE]["pid"] != answers[TWO]["pid"]
    assert {event["event"] for event in answers[TWO]["events"]} == {"burst.noted", "step.success"}


def test_the_tables_have_the_same_for_each_worker(workers):
    shop, _ = workers

    result = status(shop)

    assert result.returncode == 0, result.stderr
    by_worker, by_event, by_subscriber = result.stdout.split("\n\n")
    assert by_worker.splitlines()[0].split()[:2] == ["WORKER", "PROCESSES"]
    assert [row[0] for row in rows(by_worker)] == [ONE, TWO]
    assert [ONE, "payment.processed", "payments", "broadcast", "3", "6", "0", "0", "0", "0", "0"] in rows(by_event)
    assert [TWO, "burst.noted", "bursts", "durable", "5", "0", "0", "0", "0", "0", "0"] in rows(by_event)
    assert len(rows(by_event)) == 7
    assert rows(by_subscriber) == [[ONE, "shop.fail_to_hear", "6", "0", "0", "0"], [ONE, "shop.hear", "6", "0", "0", "0"]]


def test_celerys_own_inspect_shows_the_same(workers):
    shop, _ = workers

    result = run(shop, "inspect", "domain_events", "--json", "--timeout", "60", "--destination", ONE)

    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)[ONE]["events"] == ask(shop.client, ONE)["events"]
    assert "domain_events" in run(shop, "inspect", "--list").stdout


def test_without_a_destination_all_that_answer_in_time_are_shown(workers):
    shop, _ = workers

    # The time is waited for in full, so it is short; a slow machine may need another try.
    wait_until(
        lambda: set(json.loads(run(shop, "domain-events", "status", "--format", "json").stdout or "{}")) == {ONE, TWO},
        "both answer",
        120,
    )


def test_a_worker_that_does_not_answer_is_told_beside_those_that_do(workers):
    shop, _ = workers

    result = run(shop, "domain-events", "status", "--destination", f"{ONE},gone@test", "--timeout", "5", "--format", "json")

    assert result.returncode == 1
    assert list(json.loads(result.stdout)) == [ONE]
    assert result.stderr.endswith("Error: no answer from gone@test within 5 s: is it running, and is --timeout long enough?\n")


def test_where_no_worker_answers_that_is_said(shop):
    result = run(shop, "domain-events", "status", "--timeout", "0.1")

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.endswith("Error: no answer from any worker within 0.1 s: is it running, and is --timeout long enough?\n")


def test_a_worker_without_domain_events_is_no_worker_to_ask(shop):
    shop.start("-n", ONE, environment={"SHOP_WITHOUT_PLUGIN": "1"})

    result = run(shop, "domain-events", "status", "--timeout", "60", "--destination", ONE)

    assert (result.returncode, result.stdout) == (1, "")
    assert f"{ONE}: it has no domain events to tell of: " in result.stderr


def test_a_broker_that_can_not_be_reached_is_told_without_a_traceback(shop):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        settings = {"broker_url": f"amqp://guest:secret@127.0.0.1:{taken.getsockname()[1]}//", "broker_connection_max_retries": 0}
        result = celery("shop", APPS, settings, "domain-events", "status")

    assert (result.returncode, result.stdout) == (1, "")
    assert "Error: the broker can't be asked: " in result.stderr
    assert "Traceback" not in result.stderr
    assert "secret" not in result.stderr
