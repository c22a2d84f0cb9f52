"""What a signal says about a step, and which conditions that meets."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest
from celery.app.task import Context
from celery.utils.serialization import UnpickleableExceptionWrapper
from hypothesis import given
from hypothesis import strategies as st

from celery_tasker_events.binding import BoundStep
from celery_tasker_events.declaration import Condition
from celery_tasker_events.event import StepError
from celery_tasker_events.outcome import STARTED_AT, OutcomeKind, Snapshot, error_of, idempotency_key, observe

from .making import make_bound, make_outcome

SUCCESS, RETRYABLE, PERMANENT = OutcomeKind.SUCCESS, OutcomeKind.RETRYABLE_FAILURE, OutcomeKind.PERMANENT_FAILURE
EVERY_KIND = {SUCCESS, RETRYABLE, PERMANENT}


@pytest.mark.parametrize(
    ("condition", "kinds"),
    [
        (Condition.SUCCESS, {SUCCESS}),
        (Condition.FAILURE, {RETRYABLE, PERMANENT}),
        (Condition.RETRYABLE_FAILURE, {RETRYABLE}),
        (Condition.PERMANENT_FAILURE, {PERMANENT}),
        (Condition.ALWAYS, {SUCCESS, RETRYABLE, PERMANENT}),
    ],
)
def test_a_condition_is_met_by_these_outcomes_and_no_other(condition: Condition, kinds: set[OutcomeKind]) -> None:
    bound = make_bound(condition=condition)

    step = BoundStep([bound])

    assert {kind for kind in EVERY_KIND if step.due(kind, None) == (bound,)} == kinds
    assert all(step.due(kind, None) == () for kind in EVERY_KIND - kinds)


def test_all_events_that_are_due_keep_their_order() -> None:
    bounds = [make_bound("a.always", condition="always"), make_bound("a.success"), make_bound("a.failure", condition="failure")]

    step = BoundStep(bounds)

    assert [b.declaration.name for b in step.due(SUCCESS, None)] == ["a.always", "a.success"]
    assert [b.declaration.name for b in step.due(PERMANENT, None)] == ["a.always", "a.failure"]


def test_arguments_are_copied_only_where_a_custom_publisher_may_ask() -> None:
    generic = make_bound()
    custom = dataclasses.replace(generic, declaration=dataclasses.replace(generic.declaration, publisher="PaymentPublisher"))

    assert BoundStep([generic, generic]).needs_inputs is False
    assert BoundStep([generic, custom]).needs_inputs is True


# observe


def context(**fields: Any) -> Context:
    return Context(**{"id": "task-1", "root_id": "root-1", "retries": 0, "hostname": "worker@host", **fields})


def test_ids_attempt_and_worker_come_from_the_request() -> None:
    outcome = observe(SUCCESS, "shop.pay", "task-1", context(retries=2), runtime=0.25)

    assert (outcome.task_name, outcome.task_uuid, outcome.step_uuid) == ("shop.pay", "root-1", "task-1")
    assert (outcome.attempt, outcome.fired_by, outcome.execution_time_ms) == (3, "worker@host", 250.0)
    assert outcome.redelivered is False


def test_the_signals_own_id_counts_where_the_request_has_lost_its() -> None:
    outcome = observe(PERMANENT, "shop.pay", "task-9", Context())

    assert (outcome.step_uuid, outcome.task_uuid, outcome.correlation_id, outcome.attempt) == ("task-9", "task-9", "task-9", 1)
    assert outcome.fired_by


def test_a_redelivery_is_told() -> None:
    assert observe(SUCCESS, "t", "i", context(delivery_info={"redelivered": True})).redelivered is True
    assert observe(SUCCESS, "t", "i", context(delivery_info={"redelivered": None})).redelivered is False


def test_without_a_runtime_the_time_since_the_start_counts() -> None:
    request = context()
    setattr(request, STARTED_AT, time.monotonic() - 2)

    outcome = observe(PERMANENT, "t", "i", request)

    assert outcome.execution_time_ms is not None
    assert 2000 <= outcome.execution_time_ms < 60_000
    assert observe(PERMANENT, "t", "i", context()).execution_time_ms is None


def test_the_time_is_that_of_the_outcome() -> None:
    before = time.time()

    assert before <= observe(SUCCESS, "t", "i", context()).fired_at <= time.time()


@pytest.mark.parametrize(
    ("fields", "correlation_id"),
    [
        ({}, "root-1"),
        ({"tasker_correlation_id": "caller-1"}, "caller-1"),
        ({"headers": {"tasker_correlation_id": "caller-2"}}, "caller-2"),
        ({"headers": {"other": "x"}}, "root-1"),
        ({"tasker_correlation_id": ""}, "root-1"),
        ({"tasker_correlation_id": 7}, "root-1"),
    ],
)
def test_the_callers_correlation_id_goes_before_the_workflows(fields: dict[str, Any], correlation_id: str) -> None:
    assert observe(SUCCESS, "t", "task-1", context(**fields)).correlation_id == correlation_id


def test_a_later_change_of_the_result_does_not_change_the_snapshot() -> None:
    result = {"amount": 1}
    snapshot = Snapshot.of(result)

    result["amount"] = 2

    assert snapshot == Snapshot(b'{"amount":1}', None)


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def test_what_can_not_be_serialised_leaves_its_repr_and_the_reason() -> None:
    snapshot = Snapshot.of(1j)

    assert snapshot.json == b'"1j"'
    assert "complex" in str(snapshot.error)


def test_the_repr_of_a_huge_value_is_cut() -> None:
    assert len(Snapshot.of([1j] * 10_000).json) == 10_002


def test_a_value_without_a_repr_is_told_too() -> None:
    assert Snapshot.of(Unprintable()).json == b'"<Unprintable whose repr() raised RuntimeError>"'


def test_a_text_that_is_no_unicode_leaves_its_escaped_repr() -> None:
    snapshot = Snapshot.of("\ud800")

    assert snapshot.error is not None
    assert b"ud800" in snapshot.json


# error_of


class CardDeclined(Exception):
    error_code = "card_declined"


class NumberedCode(Exception):
    error_code = 402


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("exception", "error", "code"),
    [
        (ValueError("bad"), StepError("ValueError", "bad", False), "ValueError"),
        (CardDeclined("no funds"), StepError("CardDeclined", "no funds", False), "card_declined"),
        (NumberedCode("x"), StepError("NumberedCode", "x", False), "NumberedCode"),
        (Speechless(), StepError("Speechless", "<str() of Speechless raised RuntimeError>", False), "Speechless"),
        (ValueError("\ud800"), StepError("ValueError", "\\ud800", False), "ValueError"),
        (None, StepError("Retry", "the task asked to be retried", False), "Retry"),
    ],
)
def test_an_exception_is_described_and_has_a_code(exception: BaseException | None, error: StepError, code: str) -> None:
    assert error_of(exception, retryable=False) == (error, code)


def test_an_exception_that_celery_had_to_wrap_is_told_by_its_own_name() -> None:
    wrapped = UnpickleableExceptionWrapper("shop.errors", "CardDeclined", ("no funds",), "CardDeclined('no funds')")

    error, code = error_of(wrapped, retryable=True)

    assert (error.type, error.retryable, code) == ("CardDeclined", True, "CardDeclined")


# idempotency_key


def test_a_redelivery_of_the_same_attempt_has_the_same_key() -> None:
    first = make_outcome(attempt=2)
    again = make_outcome(attempt=2, redelivered=True, fired_at=first.fired_at + 60, fired_by="other@host", execution_time_ms=99.0)

    assert idempotency_key(first, "payments", "a.b") == idempotency_key(again, "payments", "a.b")


@pytest.mark.parametrize("change", [{"attempt": 2}, {"step_uuid": "task-2"}, {"task_name": "shop.refund"}])
def test_another_attempt_step_or_replaced_task_has_another_key(change: dict[str, Any]) -> None:
    assert idempotency_key(make_outcome(), "payments", "a.b") != idempotency_key(make_outcome(**change), "payments", "a.b")


def test_another_event_or_publication_has_another_key() -> None:
    keys = {idempotency_key(make_outcome(), "payments", name, sequence) for name in ("a.b", "a.c") for sequence in (0, 1, 2)}

    assert len(keys) == 6


PARTS = st.tuples(
    st.uuids().map(str), st.text(st.characters(categories=["L", "N", "P"])), st.integers(1, 99), st.sampled_from(["a.b", "a.bb"])
)


@given(PARTS, PARTS)
def test_keys_are_equal_exactly_where_step_task_attempt_and_event_are(one: Any, other: Any) -> None:
    def key(parts: Any) -> str:
        return idempotency_key(make_outcome(step_uuid=parts[0], task_name=parts[1], attempt=parts[2]), "payments", parts[3])

    assert (key(one) == key(other)) is (one == other)
