"""What a page's query asks for."""

from __future__ import annotations

import datetime

import pytest

from celery_tasker_events.console.filtering import Wanted
from celery_tasker_events.consumer.entry import Entry, Outline

AT = datetime.datetime(2026, 1, 1, 10, tzinfo=datetime.timezone.utc)


def entry(queue: str = "payments_domain_events", **fields: object) -> Entry:
    known = {"event_name": "payment.processed", "outcome": "completed", "correlation_id": "order-1", **fields}
    return Entry(queue, 1, AT, None, 0, AT, {}, {}, Outline(**known))


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ({}, True),
        ({"event": ""}, True),
        ({"event": "  "}, True),
        ({"event": "*"}, True),
        ({"event": "payment.*"}, True),
        ({"event": "stock.*"}, False),
        ({"event": "payment"}, False),
        ({"namespace": "payments"}, True),
        ({"namespace": "pay"}, False),
        ({"outcome": "completed"}, True),
        ({"outcome": "failed"}, False),
        ({"outcome": "no such"}, False),
        ({"correlation_id": "order-1"}, True),
        ({"correlation_id": " order-1 "}, True),
        ({"correlation_id": "order"}, False),
        ({"other": "x"}, True),
    ],
)
def test_an_entry_is_wanted_if_it_meets_all_that_is_given(query, matches):
    assert Wanted.of(query).matches(entry()) is matches


def test_what_is_no_event_is_wanted_only_where_nothing_is_said_of_events():
    nothing = entry(event_name=None, outcome=None, correlation_id=None)

    assert Wanted.of({}).matches(nothing)
    assert not Wanted.of({"event": "payment.*"}).matches(nothing)


def test_a_bad_pattern_is_told_and_kept_to_be_corrected():
    wanted = Wanted.of({"event": "payment.", "namespace": "payments"})

    assert wanted.problems["event"].startswith("bad pattern 'payment.'")
    assert wanted.given["event"] == "payment."


def test_the_query_comes_back_as_it_was_given():
    assert (
        Wanted.of({"event": "payment.*", "outcome": "", "correlation_id": "a&b=c"}).query
        == "event=payment.%2A&correlation_id=a%26b%3Dc"
    )


def test_what_postgres_can_not_look_for_is_left_out():
    assert Wanted.of({"correlation_id": "or\0der"}).correlation_id == "order"
