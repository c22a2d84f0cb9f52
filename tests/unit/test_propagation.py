"""What flows from a step to the tasks that it sends."""

from __future__ import annotations

from celery_tasker_events.propagation import CORRELATION_HEADER, WORKFLOW_HEADER, correlation_of, hand_on, sending, workflow_of


def test_outside_of_a_task_nothing_flows_that_nobody_gave() -> None:
    headers: dict[str, object] = {}

    hand_on(headers, None)

    assert headers == {}


def test_what_the_caller_gave_flows_to_every_message_inside_the_block_only() -> None:
    inside: dict[str, object] = {}
    after: dict[str, object] = {}

    with sending(correlation_id="order-7", workflow="payments/card"):
        hand_on(inside, None)
    hand_on(after, None)

    assert inside == {CORRELATION_HEADER: "order-7", WORKFLOW_HEADER: "payments/card"}
    assert after == {}


def test_an_inner_block_keeps_what_it_does_not_give_anew() -> None:
    headers: dict[str, object] = {}

    with sending(correlation_id="order-7", workflow="payments/card"), sending(workflow="payments/refund"):
        hand_on(headers, None)

    assert headers == {CORRELATION_HEADER: "order-7", WORKFLOW_HEADER: "payments/refund"}


def test_a_step_hands_on_what_it_came_with() -> None:
    headers: dict[str, object] = {}

    hand_on(headers, {"id": "2", "root_id": "1", "headers": {CORRELATION_HEADER: "order-7", WORKFLOW_HEADER: "payments/card"}})

    assert headers == {CORRELATION_HEADER: "order-7", WORKFLOW_HEADER: "payments/card"}


def test_a_step_that_came_with_nothing_hands_on_its_root_as_correlation_id() -> None:
    headers: dict[str, object] = {}

    hand_on(headers, {"id": "2", "root_id": "1"})

    assert headers == {CORRELATION_HEADER: "1"}


def test_a_header_that_the_caller_set_on_the_message_itself_is_kept() -> None:
    headers: dict[str, object] = {CORRELATION_HEADER: "mine"}

    with sending(correlation_id="order-7"):
        hand_on(headers, {"id": "2", "root_id": "1"})

    assert headers == {CORRELATION_HEADER: "mine"}


def test_headers_are_found_as_attributes_of_a_request_and_among_its_headers() -> None:
    assert correlation_of({"id": "1", CORRELATION_HEADER: "order-7"}) == "order-7"
    assert workflow_of({"id": "1", "headers": {WORKFLOW_HEADER: "payments/card"}}) == "payments/card"
    assert correlation_of({"id": "1", "headers": None}) is None


def test_a_header_of_a_wrong_type_counts_as_none() -> None:
    assert correlation_of({"id": "1", CORRELATION_HEADER: 7}) is None


def test_an_eager_task_takes_what_its_caller_gave_and_one_from_a_message_does_not() -> None:
    with sending(correlation_id="order-7"):
        assert correlation_of({"id": "1", "is_eager": True}) == "order-7"
        assert correlation_of({"id": "1"}) is None
