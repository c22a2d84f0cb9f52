"""Strategies that make any outcome and any domain event there can be, for the tests of what goes over the wire."""

from __future__ import annotations

import dataclasses
import datetime

from hypothesis import strategies as st

from celery_tasker_events.event import DomainEvent, EventMetadata, ExecutionResult, StepError, new_event_id
from celery_tasker_events.outcome import OutcomeKind, Snapshot, StepOutcome

from .test_values import JSON

# Short, and often of the characters that some format has trouble with.
TEXT = st.text(max_size=20) | st.text('a\0\x1f\x7f\x85\ufffe\U0001fffe"\\/% \u20ac\U0001f600', max_size=6)
NAMESPACES = st.from_regex(r"[a-z0-9_]+", fullmatch=True)
STANDARD_FIELDS = {field.name for field in dataclasses.fields(EventMetadata)} - {"extra"}
ERRORS = st.builds(StepError, type=TEXT, message=TEXT, retryable=st.booleans())
OUTCOMES = st.builds(
    StepOutcome,
    kind=st.sampled_from(OutcomeKind),
    task_name=st.none() | TEXT,
    task_uuid=st.none() | TEXT,
    step_uuid=st.none() | TEXT,
    correlation_id=TEXT,
    attempt=st.integers(1, 9),
    redelivered=st.booleans(),
    fired_at=st.floats(0, 1e11) | st.integers(0, 4_000_000_000).map(float),
    fired_by=TEXT,
    execution_time_ms=st.none() | st.floats(0, 1e9),
    result=st.builds(Snapshot.of, JSON),
    error=st.none() | ERRORS,
    error_code=st.none() | TEXT,
    inputs=st.none() | st.builds(Snapshot.of, st.tuples(st.lists(JSON, max_size=2), st.dictionaries(TEXT, JSON, max_size=2))),
    trace=st.none(),
    replacement=st.integers(0, 9),
)
EXECUTION_METADATA = st.fixed_dictionaries(
    {},
    optional={
        "execution_time_ms": st.none() | st.floats(0, 1e12) | JSON,
        "attempt": st.integers(1, 9) | st.sampled_from([2**31 - 1, 2**31, 2**63]) | JSON,
        "redelivered": st.booleans(),
        "more": JSON,
    },
)
EXTRA = st.dictionaries(
    (TEXT | st.sampled_from(["event_id", "event_version", "time", "data", "extra"])).filter(
        lambda key: key not in STANDARD_FIELDS
    ),
    JSON,
    max_size=3,
)
EVENTS = st.builds(
    DomainEvent,
    event_id=st.builds(new_event_id),
    event_name=st.from_regex(r"[a-z0-9_]+(\.[a-z0-9_]+)+", fullmatch=True),
    payload=st.none() | JSON,
    event_version=TEXT,
    execution_result=st.builds(
        ExecutionResult, success=st.booleans(), status=TEXT, error=st.none() | ERRORS, metadata=EXECUTION_METADATA
    ),
    metadata=st.builds(
        EventMetadata,
        task_uuid=st.none() | TEXT,
        step_uuid=st.none() | TEXT,
        step_name=st.none() | TEXT,
        namespace=NAMESPACES,
        correlation_id=TEXT,
        fired_at=st.datetimes(timezones=st.just(datetime.timezone.utc)),
        fired_by=TEXT,
        idempotency_key=TEXT,
        extra=EXTRA,
    ),
)
