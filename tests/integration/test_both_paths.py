"""A subscriber and a reader of the queue get equal JSON, whatever Python value was published; else there is a dead letter."""

from __future__ import annotations

import datetime
import decimal
import enum
from typing import Any

from celery import Celery
from hypothesis import given, settings
from hypothesis import strategies as st
from queues import messages

from celery_tasker_events import DomainEvents


class Odd(enum.Enum):
    TEXT = "t"
    NUMBER = decimal.Decimal("1.5")
    PAIR = (1, b"2")
    NOTHING = object()


KEYS = (
    st.text(max_size=3) | st.integers() | st.floats() | st.none() | st.uuids() | st.dates() | st.sampled_from(Odd) | st.just((1,))
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**53, 2**65)
    | st.floats()
    | st.text(max_size=5)
    | st.text('\0\ud800\udc00a\\"', max_size=4)
    | st.decimals()
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.times(timezones=st.none() | st.just(datetime.timezone.utc))
    | st.timedeltas()
    | st.uuids()
    | st.ip_addresses()
    | st.binary(max_size=5)
    | st.sampled_from(Odd)
    | st.complex_numbers()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.frozensets(st.integers(0, 9) | st.text(max_size=2), max_size=3)
    ),
    max_leaves=6,
)


def same(fast: Any, durable: Any) -> bool:
    if isinstance(fast, dict):
        return fast.keys() == durable.keys() and all(same(item, durable[key]) for key, item in fast.items())
    if isinstance(fast, list):
        return len(fast) == len(durable) and all(map(same, fast, durable))
    if isinstance(fast, float):
        # jsonb keeps 1e23 as an integer of 24 digits; it is the nearest float all the same.
        return type(durable) in (int, float) and fast == float(durable)
    return type(fast) is type(durable) and fast == durable


def test_both_paths_carry_the_same(dsn):
    app = Celery("shop", set_as_current=False)
    app.conf.tasker_events_dsn = dsn
    events = DomainEvents(app)
    heard: dict[str, Any] = {}
    events.subscribe("*")(lambda event: heard.update({event.event_id: event.payload}))
    seen: set[str] = set()

    @settings(max_examples=100, deadline=None, derandomize=True, database=None)
    @given(st.lists(VALUES, min_size=20, max_size=20))
    def publish(values: list[Any]) -> None:
        for value in values:
            event_id = events.publish("value.published", value, namespace="values", delivery_mode="broadcast")
            assert event_id is not None
            seen.add(event_id)
        assert events.drain(60)

    publish()
    events.close()

    queued = {message["event_id"]: message["payload"] for message in messages(dsn, "values")}
    parked = {letter["event_id"]: letter["failed_stage"] for letter in messages(dsn, "values", dead_letters=True)}
    assert queued.keys() | parked.keys() == seen
    assert not queued.keys() & parked.keys()
    assert [(heard[event_id], payload) for event_id, payload in queued.items() if not same(heard[event_id], payload)] == []
    # What has no form reaches nobody; what only jsonb has no form for, subscribers.
    assert heard.keys() == queued.keys() | {event_id for event_id, stage in parked.items() if stage == "postgres"}
    assert set(parked.values()) == {"snapshot", "postgres"}
    assert len(queued) > len(seen) / 3
