"""What would be a dead letter in production fails the test, with all that is known of why, unless it is expected."""

from __future__ import annotations

from typing import Any

import pytest

from celery_tasker_events import BasePublisher, SchemaViolation
from celery_tasker_events.testing.recorded_events import RecordedEvents, recorded

from ..conftest import NewShop
from .paying import AMOUNT, Shop, payment


class Vain(BasePublisher):
    def transform_payload(self, *_: Any) -> Any:
        raise RuntimeError("no mirror")


@pytest.mark.parametrize("mode", ["durable", "fast"])
@pytest.mark.parametrize(
    ("payload", "fields", "stage", "told"),
    [
        ({"amount": "much"}, {"schema": AMOUNT}, "schema", "SchemaViolation: payload/amount: 'much' is not of type 'number'"),
        ({"amount": object()}, {}, "snapshot", "NotSerialisable"),
        ({}, {"publisher": "Vain"}, "transform_payload", "RuntimeError: no mirror"),
    ],
)
def test_what_could_not_be_published_fails_the_test(
    shop: Shop, mode: str, payload: Any, fields: dict[str, Any], stage: str, told: str
) -> None:
    app, events = shop
    events.register_publisher(Vain)

    with pytest.raises(AssertionError) as raised, recorded():
        payment(app, delivery_mode=mode, **fields).apply([payload])

    assert told in str(raised.value)
    assert f"at stage {stage!r}" in str(raised.value)
    assert "payment.processed" in str(raised.value)
    assert ("would be lost" if mode == "fast" else "would be a dead letter") in str(raised.value)


def test_a_schema_violation_is_told_as_expected_and_got(shop: Shop) -> None:
    with pytest.raises(AssertionError) as raised, recorded():
        payment(shop[0], schema=AMOUNT).apply([{"amount": "much"}])

    assert str(raised.value).splitlines() == [
        "Domain events were not published:",
        "  payment.processed (durable) would be a dead letter in production, at stage 'schema':",
        "    SchemaViolation: payload/amount: 'much' is not of type 'number'",
        "    field           expected        got",
        "    payload.amount  type: 'number'  'much'",
        '    payload: {"amount":"much"}',
        "If that is meant: with domain_events.expect_dead_letter(...).",
    ]


@pytest.mark.parametrize(
    ("payload", "stage"), [({"text": "x" * 3000}, "size"), ({"text": "\0"}, "postgres")], ids=["too large", "a NUL"]
)
def test_what_the_durable_path_would_refuse_is_no_published_event(
    new_shop: NewShop, domain_events: RecordedEvents, payload: Any, stage: str
) -> None:
    app, _ = new_shop(tasker_events_max_event_bytes=2000)

    with domain_events.expect_dead_letter("payment.processed", stage=stage):
        payment(app).apply([payload])

    domain_events.not_published("payment.processed")


def test_an_event_by_hand_that_is_only_logged_in_production_fails_the_test(shop: Shop) -> None:
    with (
        pytest.raises(AssertionError, match=r"order\.seen \(by hand\) would be lost in production, at stage 'publish'"),
        recorded(),
    ):
        shop[1].publish("order.seen", None, delivery_mode="fsat")


def test_an_expected_dead_letter_is_handed_over_and_fails_nothing(shop: Shop) -> None:
    with recorded() as domain_events:
        with domain_events.expect_dead_letter("payment.*", stage="schema", match="not of type") as letters:
            payment(shop[0], schema=AMOUNT).apply([{"amount": "much"}])

        (letter,) = letters
        assert isinstance(letter.error, SchemaViolation)
        assert (letter.namespace, letter.payload_text) == ("payments", '{"amount":"much"}')
        assert domain_events.dead_letters == []


def test_an_expected_dead_letter_that_does_not_come_fails_the_test(shop: Shop, domain_events: RecordedEvents) -> None:
    with (
        pytest.raises(AssertionError, match=r"No dead letter of payment\.\* at stage 'size' came of this block\."),
        domain_events.expect_dead_letter("payment.*", stage="size"),
    ):
        payment(shop[0]).apply([{"amount": 1}])


def test_a_dead_letter_explains_why_an_event_is_missing(shop: Shop) -> None:
    with recorded() as domain_events, domain_events.expect_dead_letter():
        payment(shop[0], schema=AMOUNT).apply([{"amount": "much"}])

        with pytest.raises(AssertionError, match="'much' is not of type 'number'"):
            domain_events.assert_published("payment.processed")


def test_an_error_of_the_test_itself_is_not_covered_by_dead_letters(shop: Shop) -> None:
    def broken_test() -> None:
        with recorded():
            payment(shop[0], schema=AMOUNT).apply([{"amount": "much"}])
            raise KeyError

    with pytest.raises(KeyError):
        broken_test()
