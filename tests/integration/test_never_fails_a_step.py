"""Whatever breaks on an event's way, the worker's tasks end exactly as without the plugin."""

from __future__ import annotations

import pytest
from queues import messages, names

TASKS = (
    ("pay", (1,), {}),
    ("pay", (2,), {"fail_attempts": 1}),
    ("pay", (3,), {"fail_attempts": 9}),
    ("pay", (4,), {"decline": True}),
    ("broken_publisher", (), {}),
    ("unencodable", (), {}),
    ("refused_by_postgres", (), {}),
    ("violates_schema", (), {}),
)


def outcomes(shop):
    """How each task ended: its state, and its result or error."""
    sent = [shop.send(task, *args, **kwargs) for task, args, kwargs in TASKS]
    ended = []
    for result in sent:
        value = result.get(timeout=30, propagate=False)
        ended.append((result.state, type(value).__name__, str(value)))
    return ended


@pytest.fixture(scope="module")
def without_plugin(module_shop):
    worker = module_shop.start(environment={"SHOP_WITHOUT_PLUGIN": "1"})
    ended = outcomes(module_shop)
    worker.stop()
    return ended


def test_with_everything_broken_but_postgres(shop, dsn, without_plugin):
    worker = shop.start(dsn=dsn, environment={"SHOP_SUBSCRIBER_RAISES": "1"})

    ended = outcomes(shop)
    assert worker.stop() == 0

    assert ended == without_plugin
    published, parked = messages(dsn, "payments"), messages(dsn, "payments", dead_letters=True)
    # What is sound is published although what stands beside it is not, and what is not is parked with the reason.
    assert {"payment.processed", "payment.failed", "sound.publisher", "odd.encoding"} <= set(names(published))
    assert {letter["event_name"]: letter["failed_stage"] for letter in parked} == {
        "broken.publisher": "transform_payload",
        "odd.text": "postgres",
        "odd.schema": "schema",
    }
    assert "this subscriber is broken" in worker.log
    assert "heard payment.processed" in worker.log


def test_with_a_result_that_has_no_json_form(shop, dsn):
    worker = shop.start(dsn=dsn)

    shop.send("unserialisable")
    shop.send("pay", 1).get(timeout=30)
    assert worker.stop() == 0

    (letter,) = messages(dsn, "payments", dead_letters=True)
    assert (letter["event_name"], letter["failed_stage"]) == ("odd.result", "snapshot")
    assert "object" in letter["payload_text"]
    assert "odd.result not published" in worker.log


def test_with_postgres_never_there(shop, without_plugin):
    worker = shop.start(dsn="postgresql://postgres@127.0.0.1:1/none", shutdown_drain_timeout_ms=500)

    ended = outcomes(shop)
    assert worker.stop() == 0

    assert ended == without_plugin
    assert "heard payment.processed" in worker.log
    assert "durable domain events stay on disk" in worker.log


def test_with_postgres_stopped_in_the_middle_the_events_wait_for_it(shop, own_postgres, without_plugin):
    worker = shop.start(dsn=own_postgres.dsn)
    shop.send("pay", 0).get(timeout=30)

    own_postgres.shut_down("immediate")
    ended = outcomes(shop)
    own_postgres.start_again()
    shop.send("pay", 5).get(timeout=30)
    assert worker.stop() == 0

    assert ended == without_plugin
    orders = [e["payload"]["order"] for e in messages(own_postgres.dsn, "payments") if e["event_name"] == "payment.processed"]
    assert sorted(orders) == [0, 1, 2, 5]
