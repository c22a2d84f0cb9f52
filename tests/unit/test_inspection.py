"""What a worker answers, and what it counts by event and mode on the way of an event."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.worker.control import Panel
from worker_process import wait_until

from celery_tasker_events import BasePublisher, DomainEvent, DomainEvents, publishes_events
from celery_tasker_events.durable.spool.place import spool_path
from celery_tasker_events.durable.spool.spool import Spool, SpoolRow, WhenFull
from celery_tasker_events.inspection import answer

from .conftest import NewShop

LONG = 30.0

ZERO = {"published": 0, "dispatched": 0, "failed": 0, "dropped": 0, "spooled": 0, "dead_lettered": 0, "skipped": 0}


def hear(event: DomainEvent) -> None:
    if event.payload == "bad":
        raise ValueError("bad")


@pytest.fixture
def events(shop: tuple[Celery, DomainEvents]) -> DomainEvents:
    app, events = shop
    app.finalize()
    events.subscribe("*")(hear)
    return events


def publish(events: DomainEvents, name: str, payload: Any) -> None:
    assert events.publish(name, payload, namespace="payments", delivery_mode="fast")


def test_the_answer_tells_each_event_by_mode_with_the_reasons(events: DomainEvents) -> None:
    # Nobody reads it: there is room for one event, the other two are lost.
    with events.stream("payment.heard", buffer_size=1):
        for payload in ("good", "good", "bad"):
            publish(events, "payment.heard", payload)
        publish(events, "payment.odd", "\ud800")
        assert events.drain(LONG)

    told = answer(events)

    assert json.loads(json.dumps(told)) == told
    assert told["totals"] == {**ZERO, "dispatched": 2, "failed": 2, "dropped": 2}
    assert told["events"] == [
        {
            "event": "payment.heard",
            "namespace": "payments",
            "delivery_mode": "fast",
            **ZERO,
            "dispatched": 2,
            "failed": 1,
            "dropped": 2,
            "reasons": {"dropped": {"stream lagged": 2}, "failed": {"subscriber error": 1}},
        },
        {
            "event": "payment.odd",
            "namespace": "payments",
            "delivery_mode": "fast",
            **ZERO,
            "failed": 1,
            "reasons": {"failed": {"snapshot": 1}},
        },
    ]
    assert told["subscribers"] == [{"name": f"{__name__}.hear", "handled": 2, "skipped": 0, "failed": 1, "timed_out": 0}]
    assert told["subscriber_errors"] == 1
    assert told["depth"] == {"command": 0, "durable": 0, "broadcast": 0}
    assert (told["processes"], told["connections"]) == (1, {"unused": 1, "connected": 0, "down": 0})


def test_what_waits_is_told(events: DomainEvents) -> None:
    gate, entered = threading.Event(), threading.Event()

    @events.subscribe("payment.slow")
    def wait(event: DomainEvent) -> None:
        entered.set()
        assert gate.wait(LONG)

    for _ in range(3):
        publish(events, "payment.slow", "good")
    assert entered.wait(LONG)
    assert events._current_runtime()._dispatcher.drain(LONG)

    assert answer(events)["depth"] == {"command": 0, "durable": 0, "broadcast": 2}
    gate.set()
    assert events.drain(LONG)
    assert answer(events)["depth"] == {"command": 0, "durable": 0, "broadcast": 0}


def test_what_the_channel_has_no_room_for_waits_too(new_shop: NewShop, tmp_path: Path) -> None:
    gate, entered = threading.Event(), threading.Event()

    class Waiting(BasePublisher):
        def should_publish(self, *_: Any) -> bool:
            entered.set()
            return gate.wait(LONG)

    dsn = "postgresql://127.0.0.1:1/shop"
    app, events = new_shop(tasker_events_dsn=dsn, tasker_events_spool_dir=str(tmp_path), tasker_events_command_buffer_size=2)
    events.register_publisher(Waiting)

    @app.task(name="pay")
    @publishes_events("payment.processed", publisher="Waiting")
    def pay() -> None: ...

    app.finalize()
    pay.apply()
    assert entered.wait(LONG)
    for _ in range(5):
        pay.apply()

    # Two in memory, three on their way to the disk, beside the one that is being published.
    assert wait_until(lambda: answer(events)["depth"] == {"command": 5, "durable": 0, "broadcast": 0}, "five wait")
    gate.set()
    assert wait_until(lambda: answer(events)["depth"] == {"command": 0, "durable": 6, "broadcast": 0}, "none waits")
    events.close(0)


def test_no_secret_is_told(new_shop: NewShop) -> None:
    _, events = new_shop(tasker_events_dsn="postgresql://shop:secret@127.0.0.1:1/shop")

    told = answer(events)

    assert "secret" not in json.dumps(told)
    assert "host=127.0.0.1" in told["databases"][0]["dsn"]
    assert "dbname=shop" in told["databases"][0]["dsn"]


def test_an_app_without_durable_events_has_no_database_and_no_spool(shop: tuple[Celery, DomainEvents]) -> None:
    told = answer(shop[1])

    assert told["databases"] == []


def test_what_waits_on_disk_is_told(new_shop: NewShop, tmp_path: Path) -> None:
    dsn = "postgresql://127.0.0.1:1/shop"
    _, events = new_shop(tasker_events_dsn=dsn, tasker_events_spool_dir=str(tmp_path))
    path = spool_path(dsn, str(tmp_path))
    assert answer(events)["databases"][0]["spool"] == {"path": str(path), "events": 0, "bytes": 0, "oldest": None}
    assert list(tmp_path.iterdir()) == []

    spool = Spool(path, 1_000_000, WhenFull.DROP_NEWEST)
    before = time.time()
    spool.add([SpoolRow("payment.processed", "payments", b"{}")] * 3)
    told = answer(events)["databases"][0]["spool"]

    assert (told["events"], told["bytes"] > 0, before <= told["oldest"] <= time.time()) == (3, True, True)
    spool.close()


def test_a_spool_that_can_not_be_read_is_told_at_once(new_shop: NewShop, tmp_path: Path) -> None:
    dsn = "postgresql://127.0.0.1:1/shop"
    _, events = new_shop(tasker_events_dsn=dsn, tasker_events_spool_dir=str(tmp_path))
    spool_path(dsn, str(tmp_path)).write_text("no database " * 100)

    assert "error" in answer(events)["databases"][0]["spool"]


def test_the_remote_control_command_is_one_to_inspect_with(shop: tuple[Celery, DomainEvents]) -> None:
    app, events = shop

    assert Panel.meta["domain_events"].type == "inspect"
    assert Panel.data["domain_events"](SimpleNamespace(app=app)) == answer(events)


def test_an_app_without_the_plugin_answers_so() -> None:
    refusal = Panel.data["domain_events"](SimpleNamespace(app=Celery("plain", set_as_current=False)))

    assert list(refusal) == ["error"]
    assert "has no domain events" in refusal["error"]


def test_a_board_that_can_not_be_read_is_told(shop: tuple[Celery, DomainEvents], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise PermissionError("not yours")

    app, events = shop
    monkeypatch.setattr(events.tally, "totals", fail)

    assert Panel.data["domain_events"](SimpleNamespace(app=app)) == {"error": "not yours"}
