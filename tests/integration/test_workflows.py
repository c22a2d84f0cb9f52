"""Workflows on a real worker: correlation and workflow flow to every child, shared tasks, events by hand, failures told apart."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
from queues import messages
from worker_process import wait_until

CARD, INVOICE = {"tasker_workflow": "payments/card_payment"}, {"tasker_workflow": "invoices/invoice_payment"}


@pytest.fixture(scope="module")
def run(module_shop, new_database):
    dsn = new_database()
    worker = module_shop.start(app="canvas", dsn=dsn)

    def send(task, *args, **headers):
        return module_shop.client.send_task(f"canvas.{task}", args, headers=headers)

    sent = SimpleNamespace(
        started=send("start", [10, 20], tasker_correlation_id="order-7", **CARD),
        own=send("start", [30]),
        by_card=send("charge", 1, **CARD),
        by_invoice=send("charge", 1, **INVOICE),
        unknown=send("charge", 1),
        gateway=send("refuse", "gateway"),
        connection=send("refuse", "connection"),
        other=send("refuse", "other"),
        flagged=send("flag", 0.97),
    )
    for result in vars(sent).values():
        result.get(timeout=30, propagate=False)

    def queued():
        return [event for namespace in ("payments", "invoices", "audit") for event in messages(dsn, namespace)]

    def closed():
        return [event for event in queued() if event["event_name"] == "order.closed"]

    wait_until(lambda: len(closed()) == 4, "both workflows have ended")
    assert worker.stop() == 0
    return SimpleNamespace(**vars(sent), dsn=dsn, log=worker.log, queued=queued())


def of(run, result):
    return sorted(event["event_name"] for event in run.queued if event["metadata"]["step_uuid"] == result.id)


def test_a_correlation_id_that_the_caller_gave_flows_to_every_child_of_a_canvas(run):
    names = Counter(e["event_name"] for e in run.queued if e["metadata"]["correlation_id"] == "order-7")

    assert names == {"order.started": 1, "charge.made": 4, "payment.charged_by_card": 4, "order.closed": 2}


def test_without_one_the_root_of_the_workflow_is_the_correlation_id_of_every_child(run):
    names = Counter(e["event_name"] for e in run.queued if e["metadata"]["correlation_id"] == run.own.id)

    assert names == {"order.started": 1, "charge.made": 3, "order.closed": 2}


def test_the_workflow_of_a_call_picks_the_template_of_a_shared_task(run):
    assert of(run, run.by_card) == ["charge.made", "payment.charged_by_card"]
    assert of(run, run.by_invoice) == ["charge.made", "payment.charged_by_invoice"]


def test_a_shared_task_without_a_workflow_publishes_its_decorators_events_and_says_so(run):
    assert of(run, run.unknown) == ["charge.made"]
    assert "task canvas.charge could not tell which template they belong to" in run.log


def test_a_shared_task_is_told_at_the_start(run):
    assert "task canvas.charge: serves 2 templates (payments/card_payment, invoices/invoice_payment)" in run.log


def test_a_step_has_the_name_and_the_namespace_of_its_template(run):
    (event,) = (e for e in run.queued if e["event_name"] == "payment.charged_by_invoice")

    assert (event["metadata"]["step_name"], event["metadata"]["namespace"]) == ("charge_invoice", "invoices")


def test_failures_of_retryable_classes_are_retryable_and_others_permanent(run):
    assert of(run, run.gateway) == ["charge.delayed"]
    assert of(run, run.connection) == ["charge.delayed"]
    assert of(run, run.other) == ["charge.refused"]
    (delayed,) = (e for e in run.queued if e["metadata"]["step_uuid"] == run.gateway.id)
    assert delayed["execution_result"]["error"] == {"type": "GatewayDown", "message": "gateway", "retryable": True}


def test_a_task_level_event_is_published_by_hand_as_it_is_declared(run):
    first, second = run.flagged.get()
    (flagged,) = (e for e in run.queued if e["event_name"] == "payment.flagged")

    assert flagged["event_id"] == first
    assert flagged["metadata"]["step_uuid"] == run.flagged.id
    (letter,) = messages(run.dsn, "payments", dead_letters=True)
    assert (letter["event_id"], letter["failed_stage"]) == (second, "schema")
