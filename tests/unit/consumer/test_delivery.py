"""Messages are untrusted: whatever is in one, it is an event of the right types, or unreadable."""

from __future__ import annotations

import contextlib
import datetime
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from celery_tasker_events.consumer.delivery import Message, Unreadable, open_message
from celery_tasker_events.envelope import NAMES, by_name

from ..test_values import JSON
from ..wire import EVENTS

AT = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


def message(body: bytes | str, headers: str | None = None) -> Message:
    return Message("payments_domain_events", 1, 2, AT, body if isinstance(body, str) else body.decode(), headers)


@given(event=EVENTS, envelope=st.sampled_from(NAMES))
def test_every_event_is_read_back(event, envelope):
    body = by_name(envelope).to_message(event)

    delivery = open_message(message(body, '{"traceparent": "x"}'))

    assert delivery.event == event
    assert delivery.attempt == 2
    assert delivery.headers == {"traceparent": "x"}


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else ()
    return [path, *(found for key, each in inner for found in paths_of(each, (*path, key)))]


@given(event=EVENTS, envelope=st.sampled_from(NAMES), data=st.data())
def test_an_event_with_any_other_value_in_it_is_read_with_the_right_types_or_is_unreadable(event, envelope, data):
    body = orjson.loads(by_name(envelope).to_message(event))
    path = data.draw(st.sampled_from(paths_of(body)[1:]))
    holder = body
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = data.draw(JSON)

    # Anything but Unreadable would fail this test.
    with contextlib.suppress(Unreadable):
        read = open_message(message(orjson.dumps(body))).event
        assert all(isinstance(text, str) for text in (read.event_id, read.event_name, read.event_version))
        assert all(isinstance(text, str) for text in (read.metadata.namespace, read.metadata.correlation_id))
        assert isinstance(read.metadata.fired_at, datetime.datetime)
        result = read.execution_result
        assert isinstance(result.success, bool)
        assert isinstance(result.status, str)
        assert isinstance(result.metadata, dict)
        assert not result.error or (isinstance(result.error.type, str) and isinstance(result.error.message, str))
