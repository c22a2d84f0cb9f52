"""What a user declares, by mapping and by decorator."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_tasker_events.declaration import (
    MAX_NAMESPACE_LENGTH,
    Condition,
    DeclarationError,
    DeliveryMode,
    EventDeclaration,
    event_name_problem,
    namespace_problem,
    publishes_events,
)

SEGMENTS = st.from_regex(r"[a-z0-9_]+", fullmatch=True)


class Plain:
    """What a decorated function looks like to the decorator."""

    __publishes_events__: tuple[EventDeclaration, ...] = ()


def test_a_name_alone_declares_a_durable_event_on_success() -> None:
    declared = EventDeclaration.from_mapping({"name": "payment.processed"})

    assert declared == EventDeclaration(
        name="payment.processed",
        condition=Condition.SUCCESS,
        delivery_mode=DeliveryMode.DURABLE,
        description="",
        schema=None,
        publisher=None,
        version="1.0",
        namespace=None,
    )


def test_every_field_of_a_mapping_is_taken_over() -> None:
    fields = {
        "name": "payment.failed",
        "condition": "permanent_failure",
        "delivery_mode": "broadcast",
        "description": "A payment has failed.",
        "schema": {"type": "object"},
        "publisher": "shop.publishers::PaymentPublisher",
        "version": "2.1",
        "namespace": "payments",
    }

    declared = EventDeclaration.from_mapping(fields)

    assert declared.condition is Condition.PERMANENT_FAILURE
    assert declared.delivery_mode is DeliveryMode.BROADCAST
    assert {name: getattr(declared, name) for name in fields} == fields


def test_a_field_that_is_none_has_its_default() -> None:
    nothing = dict.fromkeys(("condition", "delivery_mode", "description", "schema", "publisher", "version", "namespace"))

    assert EventDeclaration.from_mapping({"name": "a.b", **nothing}) == EventDeclaration("a.b")


@pytest.mark.parametrize("condition", Condition)
def test_a_condition_may_be_given_as_enum_or_as_text(condition: Condition) -> None:
    by_enum = EventDeclaration.from_mapping({"name": "a.b", "condition": condition})
    by_text = EventDeclaration.from_mapping({"name": "a.b", "condition": condition.value})

    assert by_enum == by_text
    assert by_text.condition is condition


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"name": "a.b", "delivry_mode": "fast"}, "delivry_mode", "Did you mean 'delivery_mode'?"),
        ({"name": "a.b", "condition": "sucess"}, "condition", "Did you mean 'success'?"),
        (
            {"name": "a.b", "condition": "x"},
            "condition",
            "Known: always, failure, permanent_failure, retryable_failure, success.",
        ),
        ({"name": "a.b", "condition": ["success"]}, "condition", "unknown condition ['success']"),
        ({"name": "a.b", "delivery_mode": "durabel"}, "delivery_mode", "Did you mean 'durable'?"),
        ({"name": "a.b", "version": 1.0}, "version", "must be a string, not 1.0 (quote it)"),
        ({"name": "a.b", "description": ["x"]}, "description", "must be a string"),
        ({"name": "a.b", "publisher": 7}, "publisher", "must be a string"),
        ({"name": "a.b", "publisher": "no good"}, "publisher", "bad publisher name 'no good'"),
        ({"name": "a.b", "schema": "object"}, "schema", "must be a mapping"),
        ({"name": "a.b", "namespace": "Pay-ments"}, "namespace", "bad namespace 'Pay-ments'"),
        ({"name": "processed"}, "name", "bad event name 'processed'"),
        ({"name": "Payment.processed"}, "name", "bad event name"),
        ({"name": 3}, "name", "bad event name 3"),
        ({"condition": "success"}, None, "needs a 'name'"),
    ],
)
def test_a_wrong_field_is_named_with_what_would_be_right(fields: dict[str, object], field: str | None, message: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        EventDeclaration.from_mapping(fields)

    [(named, told)] = caught.value.by_field
    assert named == field
    assert message in told


def test_all_wrong_fields_are_told_at_once() -> None:
    with pytest.raises(DeclarationError) as caught:
        EventDeclaration.from_mapping({"name": "bad", "condition": "never", "delivery_mode": "slow", "colour": "red"})

    assert {field for field, _ in caught.value.by_field} == {"name", "condition", "delivery_mode", "colour"}


def test_something_that_is_no_mapping_is_no_declaration() -> None:
    with pytest.raises(DeclarationError, match="declared by a mapping with a 'name'"):
        EventDeclaration.from_mapping("payment.processed")


@given(st.lists(SEGMENTS, min_size=2, max_size=5))
def test_two_or_more_segments_are_an_event_name(segments: list[str]) -> None:
    assert event_name_problem(".".join(segments)) is None


@given(st.lists(SEGMENTS, min_size=2, max_size=4), st.integers(0, 20), st.sampled_from(" A-É\n*/:²"))
def test_any_other_character_spoils_an_event_name(segments: list[str], place: int, character: str) -> None:
    name = ".".join(segments)
    place = min(place, len(name))

    assert event_name_problem(name[:place] + character + name[place:]) is not None


@given(SEGMENTS)
def test_one_segment_is_no_event_name(segment: str) -> None:
    assert event_name_problem(segment) is not None


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b", "a.b\n", None, b"a.b"])
def test_malformed_event_names_are_refused(name: object) -> None:
    assert event_name_problem(name) is not None


@given(SEGMENTS)
def test_a_namespace_is_good_up_to_the_length_that_pgmq_allows_its_queues(namespace: str) -> None:
    fits = len(f"{namespace}_domain_events_dlq") <= 47

    assert (namespace_problem(namespace) is None) is fits


def test_the_longest_namespace_is_accepted_and_one_more_character_is_not() -> None:
    assert namespace_problem("n" * MAX_NAMESPACE_LENGTH) is None
    assert "too long: 29 characters at most" in str(namespace_problem("n" * (MAX_NAMESPACE_LENGTH + 1)))


@pytest.mark.parametrize("namespace", ["", "a.b", "a b", "Ä", "a\n", "A", None, 3])
def test_malformed_namespaces_are_refused(namespace: object) -> None:
    assert namespace_problem(namespace) is not None


@pytest.mark.parametrize(
    "name", ["PaymentPublisher", "shop.publishers.Payment", "shop.publishers:Payment", "Shop::Payment", "_p"]
)
def test_publisher_names_may_be_joined_in_three_ways(name: str) -> None:
    assert EventDeclaration.from_mapping({"name": "a.b", "publisher": name}).publisher == name


@pytest.mark.parametrize("name", ["", ".a", "a.", "a..b", "a:::b", "a b", "1a", "a-b", "a/b"])
def test_other_publisher_names_are_refused(name: str) -> None:
    with pytest.raises(DeclarationError, match="bad publisher name"):
        EventDeclaration.from_mapping({"name": "a.b", "publisher": name})


@pytest.mark.parametrize(
    ("mode", "pgmq", "bus"),
    [(DeliveryMode.DURABLE, True, False), (DeliveryMode.FAST, False, True), (DeliveryMode.BROADCAST, True, True)],
)
def test_a_delivery_mode_tells_the_paths_that_it_takes(mode: DeliveryMode, *, pgmq: bool, bus: bool) -> None:
    assert (mode.reaches_pgmq, mode.reaches_bus) == (pgmq, bus)


def test_the_decorator_returns_the_very_function() -> None:
    def run() -> None: ...

    assert publishes_events("a.b")(run) is run


def test_stacked_decorators_are_kept_topmost_first() -> None:
    @publishes_events("a.first")
    @publishes_events([{"name": "a.second"}, {"name": "a.third", "condition": "failure"}])
    class Step(Plain): ...

    assert [d.name for d in Step.__publishes_events__] == ["a.first", "a.second", "a.third"]


def test_one_mapping_may_stand_for_a_list_of_one() -> None:
    @publishes_events({"name": "a.b", "delivery_mode": "fast"})
    class Step(Plain): ...

    assert Step.__publishes_events__ == (EventDeclaration("a.b", delivery_mode=DeliveryMode.FAST),)


def test_mappings_and_keywords_together_are_refused() -> None:
    with pytest.raises(DeclarationError, match="not both"):
        publishes_events([{"name": "a.b"}], condition="failure")


def test_a_wrong_decorator_is_told_where_it_stands_and_not_when_the_task_runs() -> None:
    with pytest.raises(DeclarationError, match="Did you mean 'failure'"):
        publishes_events("a.b", condition="failur")
