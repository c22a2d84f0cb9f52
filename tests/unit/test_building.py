"""Drafts: an event is plain data until somebody is shown it, and the same either way."""

from __future__ import annotations

import dataclasses
import datetime
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_tasker_events import envelope
from celery_tasker_events.binding import BoundEvent
from celery_tasker_events.building import Draft, Publication
from celery_tasker_events.declaration import EventDeclaration
from celery_tasker_events.envelope import Envelope
from celery_tasker_events.event import DomainEvent, EventMetadata, ExecutionResult
from celery_tasker_events.outcome import StepOutcome
from celery_tasker_events.publisher import GenericPublisher

from .making import FIRED_AT, hooked, make_bound, make_failure, make_outcome
from .pipeline_bench import Bench
from .wire import NAMESPACES, OUTCOMES, TEXT

BOUND_EVENTS = st.builds(
    BoundEvent,
    declaration=st.builds(EventDeclaration, name=st.just("payment.processed"), version=TEXT),
    namespace=NAMESPACES,
    step_name=st.none() | TEXT,
    publisher=st.builds(GenericPublisher),
    validator=st.none(),
)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

all_envelopes = pytest.mark.parametrize("wire", [envelope.by_name(name) for name in envelope.NAMES], ids=envelope.NAMES)


def draft_of(outcome: StepOutcome, bound: BoundEvent | None = None, **given_by_hand: Any) -> Draft:
    draft = Draft(Publication(outcome, (), **given_by_hand), bound or make_bound())
    assert draft.build()
    return draft


@all_envelopes
@given(
    outcome=OUTCOMES,
    bound=BOUND_EVENTS,
    event_id=st.none() | TEXT,
    idempotency_key=st.none() | TEXT,
    traceparent=st.sampled_from([None, TRACEPARENT]),
)
def test_the_message_is_the_same_whether_or_not_somebody_was_shown_the_event(
    wire: Envelope,
    outcome: StepOutcome,
    bound: BoundEvent,
    event_id: str | None,
    idempotency_key: str | None,
    traceparent: str | None,
) -> None:
    draft = draft_of(outcome, bound, event_id=event_id, idempotency_key=idempotency_key)

    before = draft.message(wire, traceparent)
    event = draft.shown()

    assert before == draft.message(wire, traceparent)
    assert before == (wire.to_message(event, traceparent), wire.headers(event, traceparent))


def test_nobody_has_to_be_shown_an_event_in_the_native_envelope() -> None:
    draft = draft_of(make_outcome({"amount": 1}))

    draft.message(envelope.by_name("native"), None)

    assert draft.event is None


@pytest.fixture(
    params=[make_outcome({"amount": 1}, correlation_id="caller-1"), make_failure(correlation_id="caller-1")],
    ids=["success", "failure"],
)
def outcome(request: pytest.FixtureRequest) -> StepOutcome:
    made: StepOutcome = request.param
    return made


def test_an_event_that_is_shown_has_all_its_fields(outcome: StepOutcome) -> None:
    error = outcome.error
    draft = draft_of(outcome, event_id="event-1", idempotency_key="key-1")

    assert draft.shown() == DomainEvent(
        event_id="event-1",
        event_name="payment.processed",
        payload={"amount": 1} if error is None else {"error_code": "card_declined", "reason": "no funds"},
        metadata=EventMetadata(
            task_uuid="root-1",
            step_uuid="task-1",
            step_name="process_payment",
            namespace="payments",
            correlation_id="caller-1",
            fired_at=FIRED_AT,
            fired_by="worker@host",
            idempotency_key="key-1",
        ),
        execution_result=ExecutionResult(
            success=error is None,
            status=outcome.kind.value,
            error=error,
            metadata={"execution_time_ms": 12.5, "attempt": 1, "redelivered": False},
        ),
    )


def test_an_event_that_is_shown_is_as_one_made_by_its_class(outcome: StepOutcome) -> None:
    event = draft_of(outcome).shown()

    for part in (event, event.metadata, event.execution_result):
        names = [field.name for field in dataclasses.fields(part)]
        assert set(vars(part)) == set(names)
        assert dataclasses.replace(part) == pickle.loads(pickle.dumps(part)) == part
        assert list(dataclasses.asdict(part)) == names
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, names[0], "another")


def test_what_a_hook_changes_in_the_event_that_it_is_shown_is_in_the_message() -> None:
    def before_publish(self: Any, event: DomainEvent) -> None:
        assert isinstance(event.metadata.extra, dict)
        event.payload["amount"] = 2
        event.metadata.extra["tenant"] = "other"

    publisher = hooked(additional_metadata=lambda *_: {"tenant": "acme"}, before_publish=before_publish)
    bench = Bench()

    bench.publish(make_outcome({"amount": 1}), make_bound(publisher=publisher))

    [message] = bench.durable.published
    assert (message["payload"], message["metadata"]["tenant"]) == ({"amount": 2}, "other")


def test_an_added_field_with_the_name_of_a_standard_one_is_shown_to_hooks_but_not_sent() -> None:
    shown: list[DomainEvent] = []
    publisher = hooked(additional_metadata=lambda *_: {"fired_by": "me"}, after_publish=lambda self, event: shown.append(event))
    bench = Bench()

    bench.publish(make_outcome(), make_bound(publisher=publisher))

    [message], [event] = bench.durable.published, shown
    assert (event.metadata.extra, event.metadata.fired_by) == ({"fired_by": "me"}, "worker@host")
    assert message["metadata"]["fired_by"] == "worker@host"


def test_an_event_fires_when_its_outcome_was_known_to_the_microsecond() -> None:
    moment = datetime.datetime(2025, 12, 1, 10, tzinfo=datetime.timezone.utc)

    assert draft_of(make_outcome(fired_at=moment.timestamp() + 1e-6)).shown().metadata.fired_at.microsecond == 1
