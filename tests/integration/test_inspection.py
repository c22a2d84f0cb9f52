"""``celery inspect domain_events``: each worker answers with the sums over all its processes, those that are gone included."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from queues import messages
from remote import ask, published
from worker_process import wait_until

NODE = "one@test"

ORDERS = range(12)

#: What an order of the shop that is paid publishes.
PAID = {
    ("payment.processed", "broadcast"): 1,
    ("payment.tried", "durable"): 1,
    ("payment.enriched", "durable"): 1,
    ("payment.flagged", "durable"): 1,
}


def times(number, counts):
    return {key: number * count for key, count in counts.items()}


def queued(dsn):
    return Counter(event["event_name"] for queue in ("payments", "audit") for event in messages(dsn, queue))


def by_name(counts):
    names = Counter()
    for (name, _), count in counts.items():
        names[name] += count
    return names


def board_of(pid):
    """The folder of a worker, found by what its main process holds open."""
    opened = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
    [folder] = {path for path in opened if Path(path).name.startswith("celery-tasker-events-board-")}
    return Path(folder)


def wait_for_counts(shop, expected, node=NODE):
    return wait_until(lambda: (a := ask(shop.client, node)) and published(a) == expected and a, f"{expected} is counted", 60)


@pytest.fixture(scope="module")
def recycled(tmp_path_factory, new_database, make_shop):
    """A prefork worker each of whose children ends after two tasks."""
    shop, dsn = make_shop(tmp_path_factory.mktemp("inspection")), new_database()
    worker = shop.start("-n", NODE, "--max-tasks-per-child", "2", dsn=dsn, environment={"SHOP_SUBSCRIBER_RAISES": "1"})
    for result in [shop.send("pay", number) for number in ORDERS]:
        result.get(timeout=60)
    answer = wait_for_counts(shop, times(len(ORDERS), PAID))
    # Each child that begins clears up after those that have ended: two more tasks for two more children.
    folder = board_of(answer["pid"])
    files = len(list(folder.glob("process-*")))
    # Their subscribers may still be busy while the last children end.
    answer = wait_until(
        lambda: (a := ask(shop.client, NODE)) and a["subscriber_errors"] == 2 * len(ORDERS) and a, "all is heard", 60
    )
    yield SimpleNamespace(shop=shop, dsn=dsn, worker=worker, answer=answer, files=files, folder=folder)
    shop.kill()


def test_the_sums_are_exactly_what_is_in_the_queues(recycled):
    assert by_name(published(recycled.answer)) == queued(recycled.dsn)
    assert recycled.answer["totals"]["published"] == sum(queued(recycled.dsn).values())


def test_what_the_children_that_have_ended_counted_is_included(recycled):
    # Twelve orders took six children; no more than two live, and the main process has had no event.
    assert recycled.worker.log.count("heard payment.counted") == len(ORDERS)
    assert recycled.answer["processes"] <= 2
    assert recycled.answer["complete"] is True


def test_children_that_have_ended_leave_no_files_of_their_own(recycled):
    # Of six children: two that live, two that ended last, and the main process.
    assert recycled.files <= 5


def test_the_subscribers_calls_are_counted_by_event_and_mode_and_by_subscriber(recycled):
    orders = len(ORDERS)

    assert published(recycled.answer, "dispatched") == {
        ("payment.processed", "broadcast"): orders,
        ("payment.counted", "fast"): orders,
    }
    assert published(recycled.answer, "failed") == published(recycled.answer, "dispatched")
    assert recycled.answer["subscriber_errors"] == 2 * orders
    assert {s["name"]: (s["handled"], s["failed"]) for s in recycled.answer["subscribers"]} == {
        "shop.hear": (2 * orders, 0),
        "shop.fail_to_hear": (0, 2 * orders),
    }


def test_nothing_waits_when_all_is_published(recycled):
    assert recycled.answer["depth"] == {"command": 0, "durable": 0, "broadcast": 0}
    assert recycled.answer["connections"]["down"] == 0
    assert sum(recycled.answer["connections"].values()) == recycled.answer["processes"]


def test_the_folder_is_the_owners_only_and_goes_with_the_worker(shop, dsn):
    worker = shop.start("-n", NODE, dsn=dsn)
    folder = board_of(worker.process.pid)
    mode = folder.stat().st_mode & 0o777

    worker.stop()

    assert mode == 0o700
    assert not folder.exists()


def test_the_next_worker_removes_what_a_killed_one_left_behind(shop, dsn):
    worker = shop.start("-n", NODE, dsn=dsn)
    folder = board_of(worker.process.pid)
    worker.kill()
    assert folder.exists()

    other = shop.start("-n", NODE, dsn=dsn)

    assert not folder.exists()
    assert board_of(other.process.pid).exists()


@pytest.mark.parametrize("pool", ["threads", "solo", "gevent"])
def test_every_pool_answers_with_what_is_in_the_queues(shop, dsn, pool):
    if pool == "gevent" and importlib.util.find_spec("gevent") is None:
        pytest.skip("gevent is not installed: pip install 'celery[gevent]'")
    shop.start("-n", NODE, pool=pool, dsn=dsn)
    for result in [shop.send("pay", number) for number in ORDERS]:
        result.get(timeout=60)

    answer = wait_for_counts(shop, times(len(ORDERS), PAID))

    assert by_name(published(answer)) == queued(dsn)
    assert answer["processes"] == 1
    assert answer["connections"] == {"unused": 0, "connected": 1, "down": 0}


def test_the_counts_of_a_killed_child_stay(shop, dsn):
    shop.start("-n", NODE, "-c", "1", app="endings", dsn=dsn)
    shop.client.send_task("endings.burst", [50])
    counted = {("burst.noted", "durable"): 50, ("step.success", "durable"): 1}
    wait_for_counts(shop, counted)

    # It kills its process, of which the main process tells.
    shop.client.send_task("endings.lost")
    lost = {("step.permanent_failure", "durable"): 1}
    wait_for_counts(shop, {**counted, **lost})

    shop.client.send_task("endings.burst", [50])
    wait_for_counts(shop, {**times(2, counted), **lost})


def test_what_the_main_process_publishes_itself_is_included(shop, dsn):
    shop.start("-n", NODE, app="endings", dsn=dsn)
    for _ in range(2):
        shop.client.send_task("endings.too_long")

    answer = wait_for_counts(shop, {("step.permanent_failure", "durable"): 2})

    assert answer["processes"] == 1


def test_failures_and_drops_tell_their_reasons(shop, dsn):
    shop.start("-n", NODE, dsn=dsn, command_buffer_size=1)
    shop.send("violates_schema").get(timeout=60)
    shop.send("broken_publisher").get(timeout=60)

    answer = wait_for_counts(shop, {("sound.publisher", "durable"): 1})
    wait_until(lambda: ask(shop.client, NODE)["totals"]["dead_lettered"] == 2, "both are parked", 60)
    by_event = {event["event"]: event for event in answer["events"]}

    assert by_event["odd.schema"]["reasons"] == {"failed": {"schema": 1}}
    assert by_event["broken.publisher"]["reasons"] == {"failed": {"transform_payload": 1}}
    assert (by_event["broken.publisher"]["delivery_mode"], by_event["broken.publisher"]["failed"]) == ("broadcast", 1)


def test_an_outage_is_seen_in_the_connections_and_depths(shop, dsn, tmp_path):
    unreachable = dsn.replace("postgres:@", "postgres:secret@") + "&port=1"
    assert "secret" in unreachable
    shop.start("-n", NODE, dsn=unreachable, spool_dir=str(tmp_path / "spool"))
    for result in [shop.send("pay", number) for number in ORDERS]:
        result.get(timeout=60)

    answer = wait_until(
        lambda: (
            (a := ask(shop.client, NODE))
            and a["depth"]["durable"] == len(PAID) * len(ORDERS)
            and a["databases"][0]["spool"]["events"] == a["depth"]["durable"]
            and a["connections"]["down"] == a["processes"]
            and a
        ),
        "all wait",
        60,
    )

    assert answer["connections"]["down"] >= 1
    assert answer["databases"][0]["spool"]["events"] == answer["totals"]["spooled"] == len(PAID) * len(ORDERS)
    assert ("secret" in answer["databases"][0]["dsn"], "***" in answer["databases"][0]["dsn"]) == (False, True)
    assert answer["depth"]["command"] == 0
    assert answer["totals"]["published"] == 0


def test_a_worker_that_has_published_nothing_answers_with_zeros(shop, dsn):
    shop.start("-n", NODE, dsn=dsn)

    answer = ask(shop.client, NODE)

    assert set(answer["totals"].values()) == {0}
    assert (answer["events"], answer["subscribers"], answer["processes"]) == ([], [], 0)
    assert answer["connections"] == {"unused": 0, "connected": 0, "down": 0}


def test_a_worker_without_domain_events_says_so(shop):
    shop.start("-n", NODE, environment={"SHOP_WITHOUT_PLUGIN": "1"})

    assert "has no domain events" in ask(shop.client, NODE)["error"]


def test_where_there_is_no_place_to_count_together_every_process_counts_for_itself(shop, dsn):
    worker = shop.start("-n", NODE, app="placeless", dsn=dsn)
    results = [shop.send("pay", number) for number in ORDERS]

    assert [result.get(timeout=60)["order"] for result in results] == list(ORDERS)
    answer = ask(shop.client, NODE)
    assert (answer["complete"], answer["events"]) == (False, [])
    wait_until(lambda: queued(dsn) == by_name(times(len(ORDERS), PAID)), "all is published")
    assert worker.log.count("Each process of this worker counts for itself") == 1
