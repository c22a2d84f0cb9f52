"""From an outcome to published events: modes, hooks, schema; what fails in one event never reaches another."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest

from celery_tasker_events.declaration import DeliveryMode, EventDeclaration
from celery_tasker_events.envelope import by_name
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.outcome import Snapshot, idempotency_key
from celery_tasker_events.pipeline import Pipeline, Publication
from celery_tasker_events.publisher import StepContext, StepResult
from celery_tasker_events.router import Router
from celery_tasker_events.telemetry.counters import Counters, Series

from .making import FIRED_AT, Boom, RecordingBus, hooked, make_bound, make_failure, make_outcome, raising
from .pipeline_bench import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


# Modes


@pytest.mark.parametrize(
    ("mode", "on_bus", "in_pgmq"), [("durable", False, True), ("fast", True, False), ("broadcast", True, True)]
)
def test_an_event_takes_the_paths_of_its_mode(bench: Bench, mode: str, *, on_bus: bool, in_pgmq: bool) -> None:
    bench.publish(make_outcome({"amount": 1}), make_bound(delivery_mode=mode))

    assert [event.payload for event in bench.bus.events] == [{"amount": 1}] * on_bus
    assert [message["payload"] for message in bench.durable.published] == [{"amount": 1}] * in_pgmq


def test_both_paths_of_a_broadcast_carry_the_same_event(bench: Bench) -> None:
    bench.publish(make_outcome({"amount": 1}), make_bound(delivery_mode="broadcast"))

    [event], [message] = bench.bus.events, bench.durable.published
    assert message["event_id"] == event.event_id
    assert message["payload"] == event.payload
    assert message["metadata"]["idempotency_key"] == event.metadata.idempotency_key


def test_a_broadcast_reaches_the_bus_first() -> None:
    order: list[str] = []

    class Bus:
        def publish(self, event: DomainEvent, mode: str) -> None:
            order.append("bus")

    class Durable:
        def send(self, message: Any) -> None:
            order.append("pgmq")

    durable = Durable()
    counters = Counters()
    Pipeline(Router(Bus(), durable, by_name("native"), counters), durable, counters).publish(
        Publication(make_outcome(), (make_bound(delivery_mode="broadcast"),))
    )

    assert order == ["bus", "pgmq"]


def test_what_a_subscriber_does_to_the_payload_does_not_reach_pgmq() -> None:
    class Tampering(RecordingBus):
        def publish(self, event: DomainEvent, mode: str) -> None:
            event.payload["amount"] = "tampered"

    bench = Bench(Tampering())

    bench.publish(make_outcome({"amount": 1}), make_bound(delivery_mode="broadcast"))

    assert [message["payload"] for message in bench.durable.published] == [{"amount": 1}]


def test_what_a_subscriber_does_to_the_payload_does_not_reach_the_next_event() -> None:
    class Tampering(RecordingBus):
        def publish(self, event: DomainEvent, mode: str) -> None:
            super().publish(dataclasses.replace(event, payload=dict(event.payload)), mode)
            event.payload["amount"] = "tampered"

    bench = Bench(Tampering())

    bench.publish(make_outcome({"amount": 1}), *[make_bound(name, delivery_mode="fast") for name in ("a.b", "a.c")])

    assert [event.payload for event in bench.bus.events] == [{"amount": 1}, {"amount": 1}]


class BrokenBus(RecordingBus):
    def publish(self, event: DomainEvent, mode: str) -> None:
        raise RuntimeError("bus is down")


def test_an_error_on_the_bus_does_not_stop_the_durable_path(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(BrokenBus())

    bench.publish(make_outcome({"amount": 1}), make_bound(delivery_mode="broadcast"), make_bound("a.next"))

    assert [message["event_name"] for message in bench.durable.published] == ["payment.processed", "a.next"]
    assert bench.durable.dead_letters == []
    assert "Domain event payment.processed not put on the bus" in caplog.text
    assert bench.counters.snapshot()[Series("failed", "payment.processed", "payments", "bus")] == 1


# The event


def test_an_event_tells_what_is_known_of_its_step(bench: Bench) -> None:
    outcome = make_outcome({"amount": 1}, attempt=2, redelivered=True)

    bench.publish(outcome, make_bound(delivery_mode="fast", version="2.0"))

    [event] = bench.bus.events
    assert (event.event_name, event.event_version, event.payload) == ("payment.processed", "2.0", {"amount": 1})
    assert event.execution_result.success is True
    assert event.execution_result.status == "completed"
    assert event.execution_result.error is None
    assert event.execution_result.metadata == {"execution_time_ms": 12.5, "attempt": 2, "redelivered": True}
    metadata = event.metadata
    assert (metadata.task_uuid, metadata.step_uuid, metadata.step_name) == ("root-1", "task-1", "process_payment")
    assert (metadata.namespace, metadata.correlation_id) == ("payments", "root-1")
    assert (metadata.fired_at, metadata.fired_by) == (FIRED_AT, "worker@host")
    assert metadata.idempotency_key == idempotency_key(outcome, "payments", "payment.processed")
    assert metadata.extra == {}


def test_a_failure_is_published_with_code_reason_and_error(bench: Bench) -> None:
    bench.publish(make_failure(), make_bound("payment.failed", condition="failure", delivery_mode="fast"))

    [event] = bench.bus.events
    assert event.payload == {"error_code": "card_declined", "reason": "no funds"}
    assert event.execution_result.success is False
    assert event.execution_result.status == "failed"
    assert event.execution_result.error == make_failure().error


def test_a_namespace_decides_about_the_queue(bench: Bench) -> None:
    bench.publish(make_outcome(), make_bound(namespace="refunds"))

    [message] = bench.durable.messages
    assert message.queue == "refunds_domain_events"


def test_each_event_has_its_own_id(bench: Bench) -> None:
    bench.publish(make_outcome(), make_bound("a.b", delivery_mode="fast"), make_bound("a.c", delivery_mode="fast"))

    assert len({event.event_id for event in bench.bus.events}) == 2


def test_an_id_and_a_key_that_the_caller_knows_are_kept(bench: Bench) -> None:
    bench.publish(make_outcome(), make_bound(delivery_mode="fast"), event_id="id-1", idempotency_key="key-9")

    [event] = bench.bus.events
    assert (event.event_id, event.metadata.idempotency_key) == ("id-1", "key-9")


# Hooks


def test_hooks_see_the_step_its_result_and_its_arguments(bench: Bench) -> None:
    seen: list[tuple[StepResult, EventDeclaration, StepContext]] = []

    def should_publish(self: Any, result: StepResult, declaration: EventDeclaration, context: StepContext) -> bool:
        seen.append((result, declaration, context))
        return True

    bound = make_bound(publisher=hooked(should_publish=should_publish))
    bench.publish(make_outcome({"amount": 1}, inputs=Snapshot.of([["order-1"], {"retry": False}])), bound)

    [(result, declaration, context)] = seen
    assert (result.success, result.result) == (True, {"amount": 1})
    assert declaration is bound.declaration
    assert (context.task_name, context.step_name, context.namespace) == ("shop.process_payment", "process_payment", "payments")
    assert (context.args, context.kwargs) == (["order-1"], {"retry": False})


def test_arguments_without_a_json_form_are_empty_to_the_hooks(bench: Bench) -> None:
    seen: list[StepContext] = []
    bound = make_bound(publisher=hooked(transform_payload=lambda self, result, declaration, context: seen.append(context)))

    bench.publish(make_outcome(inputs=Snapshot.of([[object()], {}])), bound)

    [context] = seen
    assert (list(context.args), context.kwargs) == ([], {})


def test_a_transformed_payload_has_its_json_form_on_both_paths(bench: Bench) -> None:
    publisher = hooked(transform_payload=lambda self, result, declaration, context: {"tags": {"b", "a"}, "at": FIRED_AT})

    bench.publish(make_outcome(), make_bound(publisher=publisher, delivery_mode="broadcast"))

    assert bench.bus.events[0].payload == {"tags": ["a", "b"], "at": "2025-12-01T10:00:00.123456+00:00"}
    assert bench.durable.published[0]["payload"] == bench.bus.events[0].payload


def test_additional_metadata_stands_beside_the_standard_fields(bench: Bench) -> None:
    publisher = hooked(additional_metadata=lambda self, result, declaration, context: {"tenant": "acme", "namespace": "forged"})

    bench.publish(make_outcome(), make_bound(publisher=publisher))

    [message] = bench.durable.published
    assert (message["metadata"]["tenant"], message["metadata"]["namespace"]) == ("acme", "payments")


@pytest.mark.parametrize("mode", DeliveryMode)
def test_a_publisher_may_decide_against_an_event(bench: Bench, mode: DeliveryMode) -> None:
    publisher = hooked(
        should_publish=lambda self, *_: False, transform_payload=lambda self, *_: pytest.fail("asked for a payload")
    )

    bench.publish(make_outcome(), make_bound(publisher=publisher, delivery_mode=mode))

    assert (bench.bus.events, bench.durable.messages) == ([], [])
    assert bench.counters.snapshot() == {Series("skipped", "payment.processed", "payments", "should_publish"): 1}


@pytest.mark.parametrize("mode", DeliveryMode)
def test_a_publisher_may_veto_the_finished_event(bench: Bench, mode: DeliveryMode) -> None:
    after: list[DomainEvent] = []
    publisher = hooked(before_publish=lambda self, event: False, after_publish=lambda self, event: after.append(event))

    bench.publish(make_outcome(), make_bound(publisher=publisher, delivery_mode=mode))

    assert (bench.bus.events, bench.durable.messages, after) == ([], [], [])
    assert bench.counters.snapshot() == {Series("skipped", "payment.processed", "payments", "before_publish"): 1}


@pytest.mark.parametrize("answer", [True, None])
def test_any_other_answer_than_false_is_no_veto(bench: Bench, answer: object) -> None:
    bench.publish(make_outcome(), make_bound(publisher=hooked(before_publish=lambda self, event: answer)))

    assert len(bench.durable.published) == 1


def test_after_publish_sees_the_event_when_it_is_on_its_way(bench: Bench) -> None:
    seen: list[tuple[DomainEvent, int]] = []
    publisher = hooked(after_publish=lambda self, event: seen.append((event, len(bench.durable.published))))

    bench.publish(make_outcome(), make_bound(publisher=publisher))

    [(event, already_sent)] = seen
    assert (event.event_name, already_sent) == ("payment.processed", 1)


FAILING_HOOKS = ["should_publish", "transform_payload", "additional_metadata", "before_publish"]


@pytest.mark.parametrize("hook", FAILING_HOOKS)
@pytest.mark.parametrize("error", [Boom("no luck"), SystemExit(3)], ids=repr)
def test_a_hook_that_raises_costs_its_own_event_only(
    bench: Bench, hook: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    bad = make_bound("payment.bad", publisher=hooked(**{hook: raising(error)}))

    bench.publish(make_outcome({"amount": 1}), make_bound("a.before"), bad, make_bound("a.after"))

    assert [message["event_name"] for message in bench.durable.published] == ["a.before", "a.after"]
    assert bench.counters.snapshot() == {Series("failed", "payment.bad", "payments", hook): 1}
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert f"payment.bad not published: {hook}: {type(error).__name__}" in record.getMessage()
    assert record.__dict__["error_type"] == type(error).__name__
    assert (record.__dict__["event_name"], record.__dict__["step_uuid"]) == ("payment.bad", "task-1")
    assert (record.__dict__["queue_name"], record.__dict__["correlation_id"]) == ("payments_domain_events", "root-1")


@pytest.mark.parametrize("hook", FAILING_HOOKS)
@pytest.mark.parametrize(("mode", "parked"), [("durable", True), ("broadcast", True), ("fast", False)])
def test_a_durable_event_that_a_hook_failed_is_parked(bench: Bench, hook: str, mode: str, *, parked: bool) -> None:
    bench.publish(
        make_outcome({"amount": 1}), make_bound(publisher=hooked(**{hook: raising(Boom("no luck"))}), delivery_mode=mode)
    )

    assert bench.bus.events == []
    letters = bench.durable.dead_letters
    assert len(letters) == int(parked)
    for letter in letters:
        assert letter["failed_stage"] == hook
        assert letter["error"] == {"error": "no luck", "error_type": "Boom"}
        assert letter["declaration"]["name"] == letter["event_name"] == "payment.processed"
        assert letter["payload_text"] == '{"amount":1}'
        assert letter["step_uuid"] == "task-1"


def test_a_dead_letter_goes_into_the_queue_beside_its_events_queue(bench: Bench) -> None:
    bench.publish(make_outcome(), make_bound(publisher=hooked(before_publish=raising(Boom()))))

    assert [message.queue for message in bench.durable.messages] == ["payments_domain_events_dlq"]


def test_a_failing_after_publish_is_logged_and_the_event_stays_published(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bound = make_bound(publisher=hooked(after_publish=raising(SystemExit(3))), delivery_mode="broadcast")

    bench.publish(make_outcome(), bound, make_bound("a.next"))

    assert [message["event_name"] for message in bench.durable.published] == ["payment.processed", "a.next"]
    assert bench.durable.dead_letters == []
    assert "Hook after_publish of publisher 'Hooked' failed" in caplog.text
    assert bench.counters.total("failed") == 0


def test_on_publish_error_hears_of_the_error_and_of_the_event_as_far_as_it_was_built(bench: Bench) -> None:
    heard: list[tuple[DomainEvent | None, str, BaseException]] = []

    def on_publish_error(self: Any, event: DomainEvent | None, declaration: EventDeclaration, error: BaseException) -> None:
        heard.append((event, declaration.name, error))

    early, late = Boom("early"), Boom("late")
    bench.publish(
        make_outcome(),
        make_bound("a.early", publisher=hooked(should_publish=raising(early), on_publish_error=on_publish_error)),
        make_bound("a.late", publisher=hooked(before_publish=raising(late), on_publish_error=on_publish_error)),
    )

    assert [(event and event.event_name, name, error) for event, name, error in heard] == [
        (None, "a.early", early),
        ("a.late", "a.late", late),
    ]


def test_a_failing_on_publish_error_makes_no_second_error(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    hooks = {"should_publish": raising(Boom()), "on_publish_error": raising(SystemExit(3))}

    bench.publish(make_outcome(), make_bound(publisher=hooked(**hooks)), make_bound("a.next"))

    assert [message["event_name"] for message in bench.durable.published] == ["a.next"]
    assert bench.counters.total("failed") == 1
    assert "Hook on_publish_error of publisher 'Hooked' failed" in caplog.text
