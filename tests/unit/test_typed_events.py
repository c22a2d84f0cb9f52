"""An event that is declared by a class: in a decorator, or with events.declare to be published by hand."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import celery
import pytest
from celery import Celery
from typing_extensions import TypedDict

from celery_tasker_events import ConfigurationError, DomainEvents, EventType, publishes_events
from celery_tasker_events.cli.declared import entries_of
from celery_tasker_events.contract.asyncapi import asyncapi_document
from celery_tasker_events.declaration import DeclarationError
from celery_tasker_events.envelope import by_name
from celery_tasker_events.pipeline import Publication

pydantic = pytest.importorskip("pydantic")

Shop = tuple[Celery, DomainEvents]


class PaymentProcessed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(serialize_by_alias=True, populate_by_name=True)

    in_cents: int = pydantic.Field(alias="inCents")


@dataclasses.dataclass
class PaymentFlagged:
    score: float


class Noted(TypedDict):
    text: str


class Sets:
    """What has no JSON Schema."""


@dataclasses.dataclass
class Odd:
    sets: Sets


@pytest.fixture
def seen(shop: Shop) -> list[Any]:
    """The payloads that the subscribers of the shop are given."""
    _, events = shop
    payloads: list[Any] = []
    events.subscribe("*")(lambda event: payloads.append(event.payload))
    return payloads


@pytest.mark.parametrize(
    ("schema", "result", "payload"),
    [
        (PaymentProcessed, PaymentProcessed(in_cents=5), {"inCents": 5}),
        (PaymentFlagged, PaymentFlagged(0.5), {"score": 0.5}),
        (Noted, {"text": "ok"}, {"text": "ok"}),
    ],
)
def test_a_task_returns_an_instance_of_the_class_that_its_event_is_declared_by(
    shop: Shop, seen: list[Any], schema: type, result: Any, payload: Any
) -> None:
    app, events = shop

    @app.task(name="shop.pay", ignore_result=True)
    @publishes_events("payment.processed", schema=schema, delivery_mode="fast")
    def pay(good: bool) -> Any:
        return result if good else {"other": 1}

    pay.apply([True])
    pay.apply([False])
    assert events.drain(20)

    assert seen == [payload]
    assert next(events.catalog.events()).declaration.schema["$schema"].startswith("https://json-schema.org/draft/2020-12")  # type: ignore[index, union-attr]


@pytest.mark.skipif(celery.VERSION < (5, 5), reason="Celery before 5.5 knows no pydantic")
def test_what_celery_makes_of_a_model_matches_its_schema_too(shop: Shop, seen: list[Any]) -> None:
    app, events = shop

    @app.task(name="shop.pay", pydantic=True)
    @publishes_events("payment.processed", schema=PaymentProcessed, delivery_mode="fast")
    def pay(cents: int) -> PaymentProcessed:
        return PaymentProcessed(in_cents=cents)

    assert pay.apply([5]).get() == {"inCents": 5}
    assert events.drain(20)

    assert seen == [{"inCents": 5}]


def test_what_is_wrong_with_a_class_is_told_when_the_app_starts_with_the_tasks_name(shop: Shop) -> None:
    app, events = shop
    events.declare("odd.noted", Odd)

    @app.task(name="shop.pay")
    @publishes_events("payment.processed", schema=Odd)
    def pay() -> None: ...

    with pytest.raises(ConfigurationError) as caught:
        events.check_worker()

    by_hand, by_task = caught.value.problems
    assert str(by_task).startswith("task shop.pay: event 'payment.processed': class Odd has no JSON Schema: ")
    assert str(by_hand).startswith("events.declare: event 'odd.noted': class Odd has no JSON Schema: ")


def test_a_declared_event_is_published_by_hand_with_its_class(shop: Shop, seen: list[Any]) -> None:
    _, events = shop
    flagged = events.declare("payment.flagged", PaymentFlagged, namespace="fraud", delivery_mode="fast", version="2.0")

    assert isinstance(flagged, EventType)
    assert events.publish(flagged, PaymentFlagged(0.97))
    assert events.drain(20)

    assert seen == [{"score": 0.97}]
    [bound] = events.catalog.events()
    assert (bound.namespace, bound.declaration.version, bound.step_name) == ("fraud", "2.0", None)


def test_by_its_name_it_is_the_same_event_with_the_same_schema(shop: Shop, seen: list[Any]) -> None:
    _, events = shop
    events.declare("payment.flagged", PaymentFlagged, delivery_mode="fast")

    events.publish("payment.flagged", {"score": 0.5})
    events.publish("payment.flagged", {"score": "high"})
    assert events.drain(20)

    assert seen == [{"score": 0.5}]


def test_an_event_that_is_declared_after_the_app_is_finalized_is_known_at_once(
    shop: Shop, seen: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    _, events = shop
    assert list(events.catalog.events()) == []

    flagged = events.declare("payment.flagged", PaymentFlagged, delivery_mode="fast")
    events.publish(flagged, PaymentFlagged(1.0))
    assert events.drain(20)
    with caplog.at_level(logging.WARNING):
        events.declare("odd.noted", Odd)

    assert seen == [{"score": 1.0}]
    assert "event 'odd.noted': class Odd has no JSON Schema" in caplog.text


def test_its_queue_is_among_those_that_are_set_up_and_it_is_in_the_contract(shop: Shop) -> None:
    _, events = shop
    events.declare("payment.flagged", PaymentFlagged, namespace="fraud", description="Looks odd")

    assert events.catalog.durable_namespaces() == {"fraud"}
    document = asyncapi_document(entries_of(events.catalog), by_name("native"), "Shop", "1.0.0")
    message = document["components"]["messages"]["fraud.payment.flagged-1.0"]
    assert (message["summary"], message["description"]) == ("published by hand", "Looks odd")
    assert message["examples"][0]["payload"]["payload"] == {"score": 1}


def test_publishing_may_choose_another_mode(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    _, events = shop
    flagged = events.declare("payment.flagged", PaymentFlagged, delivery_mode="fast")
    put: list[Publication] = []
    monkeypatch.setattr(events, "put", lambda publication: bool(put.append(publication)) or True)

    assert events.publish(flagged, PaymentFlagged(1.0), delivery_mode="durable", confirm=True)

    [bound] = put[0].events
    assert (bound.declaration.delivery_mode, bound.confirm) == ("durable", True)
    assert bound.validator is not None


@pytest.mark.parametrize(
    ("name", "fields", "told"),
    [
        ("flagged", {}, "bad event name 'flagged'"),
        ("payment.flagged", {"delivery_mode": "fsat"}, "unknown delivery_mode 'fsat'"),
        ("payment.noted", {}, "event 'payment.noted' is declared by events.declare already"),
    ],
)
def test_a_mistake_is_told_where_it_is_declared(shop: Shop, name: str, fields: dict[str, Any], told: str) -> None:
    _, events = shop
    events.declare("payment.noted", Noted)

    with pytest.raises(DeclarationError, match=told):
        events.declare(name, PaymentFlagged, **fields)


def test_an_event_of_another_app_is_not_published(new_shop: Any, caplog: pytest.LogCaptureFixture) -> None:
    (_, events), (_, others) = new_shop(), new_shop("other")
    flagged = others.declare("payment.flagged", PaymentFlagged, delivery_mode="fast")

    assert events.publish(flagged, PaymentFlagged(1.0)) is None
    assert "Domain event 'payment.flagged' was not published by hand" in caplog.text
    assert "is not declared by this app's events.declare" in caplog.text
