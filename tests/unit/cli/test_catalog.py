"""``catalog`` lists which task publishes which event when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_tasker_events import BasePublisher, DomainEvents, publishes_events

TEMPLATE = """\
name: checkout
namespace_name: payments
version: 1.2.0
domain_events:
  - {name: checkout.flagged, delivery_mode: fast}
steps:
  - name: charge
    handler: {task: shop.pay}
    publishes_events:
      - {name: payment.processed, delivery_mode: broadcast, version: "2.0", publisher: CardPublisher,
         description: The order is paid, schema: {type: object}}
"""


TABLE = """\
TASK     EVENT             WHEN              MODE      NAMESPACE QUEUE                  STEP   TEMPLATE          PUBLISHER VERSION
shop.pay payment.processed success           broadcast payments  payments_domain_events charge payments/checkout CardPublisher 2.0
shop.pay payment.failed    permanent_failure durable   audit     audit_domain_events    pay    -                 -         1.0
-        checkout.flagged  by hand           fast      payments  -                      -      payments/checkout -         1.0
"""


class CardPublisher(BasePublisher): ...


@pytest.fixture
def checkout(shop: tuple[Celery, DomainEvents], write_template: Any) -> Celery:
    app, events = shop
    events.register_publisher(CardPublisher)
    app.conf.tasker_events_templates = [str(write_template(TEMPLATE))]

    @app.task(name="shop.pay")
    @publishes_events("payment.failed", namespace="audit", condition="permanent_failure")
    def pay() -> None: ...

    return app


def test_the_table_has_a_line_for_each_event(run_celery: Any, checkout: Celery) -> None:
    result = run_celery(checkout, "catalog")

    assert result.exit_code == 0
    assert [line.split() for line in result.output.splitlines()] == [line.split() for line in TABLE.splitlines()]


def test_json_has_an_object_for_each_event(run_celery: Any, checkout: Celery) -> None:
    processed, failed, flagged = json.loads(run_celery(checkout, "catalog", "--format", "json").output)

    assert processed == {
        "task": "shop.pay",
        "step": "charge",
        "template": "payments/checkout",
        "event": "payment.processed",
        "condition": "success",
        "delivery_mode": "broadcast",
        "namespace": "payments",
        "queue": "payments_domain_events",
        "publisher": "CardPublisher",
        "version": "2.0",
        "template_version": "1.2.0",
        "description": "The order is paid",
        "schema": {"type": "object"},
    }
    assert (failed["template"], failed["condition"], failed["publisher"]) == (None, "permanent_failure", None)
    assert (flagged["task"], flagged["condition"], flagged["queue"]) == (None, None, None)


def test_one_task_of_several_templates_is_listed_with_each(run_celery: Any, checkout: Celery, write_template: Any) -> None:
    other = str(write_template(TEMPLATE.replace("name: checkout", "name: refund", 1), "other.yaml"))
    checkout.conf.tasker_events_templates.append(other)

    events = json.loads(run_celery(checkout, "catalog", "--format", "json").output)

    assert [event["template"] for event in events if event["event"] == "payment.processed"] == [
        "payments/checkout",
        "payments/refund",
    ]


def test_a_step_whose_task_is_unknown_is_told_beside_the_others(run_celery: Any, checkout: Celery, tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE.replace("shop.pay", "shop.gone"))

    result = run_celery(checkout, "catalog", "--format", "json")

    assert result.exit_code == 0
    assert f"{path}:7: step 'charge' names no Celery task (shop.gone)." in result.stderr
    assert [event["event"] for event in json.loads(result.stdout)] == ["payment.failed", "checkout.flagged"]


def test_what_is_wrong_is_told_in_place_of_half_a_catalog(run_celery: Any, checkout: Celery, tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(TEMPLATE.replace("broadcast", "brodcast"))

    result = run_celery(checkout, "catalog")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "template.yaml:10: unknown delivery_mode 'brodcast'. Did you mean 'broadcast'?" in result.stderr


def test_an_app_that_declares_nothing_says_so(run_celery: Any, shop: tuple[Celery, DomainEvents]) -> None:
    app, _ = shop

    assert run_celery(app, "catalog").output == "No events are declared.\n"
    assert run_celery(app, "catalog", "--format", "json").output == "[]\n"
