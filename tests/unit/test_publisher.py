"""The publishers' hooks by default, and the registry."""

from __future__ import annotations

import datetime
import sys
import types

import pytest

from celery_tasker_events.declaration import EventDeclaration
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.publisher import (
    BasePublisher,
    GenericPublisher,
    PublisherRegistry,
    StepContext,
    StepResult,
    register_all,
)

from .making import CARD_DECLINED, make_event

DECLARED = EventDeclaration("payment.processed")
CONTEXT = StepContext(
    task_uuid="root-1",
    step_uuid="task-1",
    step_name="process_payment",
    task_name="shop.process_payment",
    namespace="payments",
    correlation_id="root-1",
    attempt=1,
    redelivered=False,
    fired_at=datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone.utc),
    fired_by="worker@host",
)


class PaymentPublisher(BasePublisher): ...


class Named(BasePublisher):
    @property
    def name(self) -> str:
        return "Shop::Payment"


class NeedsArguments(BasePublisher):
    def __init__(self, bank: str) -> None:
        self.bank = bank


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """An importable module with publishers in it."""
    module = types.ModuleType("shop_publishers")
    vars(module).update(PaymentPublisher=PaymentPublisher, NeedsArguments=NeedsArguments, number=7, made=PaymentPublisher())
    monkeypatch.setitem(sys.modules, "shop_publishers", module)
    return module


def test_by_default_a_success_is_published_with_the_return_value() -> None:
    result = StepResult(True, "completed", result={"amount": 1})
    publisher = GenericPublisher()

    assert publisher.should_publish(result, DECLARED, CONTEXT) is True
    assert publisher.transform_payload(result, DECLARED, CONTEXT) is result.result
    assert publisher.additional_metadata(result, DECLARED, CONTEXT) == {}
    assert publisher.before_publish(make_event()) is not False


def test_by_default_a_failure_is_published_with_code_and_reason() -> None:
    result = StepResult(False, "failed", error=CARD_DECLINED, error_code="card_declined")

    payload = GenericPublisher().transform_payload(result, DECLARED, CONTEXT)

    assert payload == {"error_code": "card_declined", "reason": "no funds"}


def test_a_declaration_without_a_publisher_has_the_generic_one() -> None:
    assert type(PublisherRegistry().resolve(None)) is GenericPublisher


@pytest.mark.parametrize("publisher", [PaymentPublisher, PaymentPublisher()])
def test_a_registered_publisher_is_found_by_its_class_name(publisher: BasePublisher | type[BasePublisher]) -> None:
    registry = PublisherRegistry()

    registry.register(publisher)

    assert type(registry.resolve("PaymentPublisher")) is PaymentPublisher


def test_a_publisher_may_choose_its_name() -> None:
    registry = PublisherRegistry()

    registry.register(Named)

    assert type(registry.resolve("Shop::Payment")) is Named
    with pytest.raises(ConfigurationError):
        registry.resolve("Named")


def test_the_same_publisher_may_be_registered_twice() -> None:
    registry = PublisherRegistry()

    registry.register(PaymentPublisher)
    registry.register(PaymentPublisher)

    assert type(registry.resolve("PaymentPublisher")) is PaymentPublisher


def test_two_publishers_of_one_name_are_refused() -> None:
    registry = PublisherRegistry()
    registry.register(PaymentPublisher)
    other = type("PaymentPublisher", (BasePublisher,), {})

    with pytest.raises(ConfigurationError, match="two publishers are named 'PaymentPublisher'"):
        registry.register(other)


def test_once_frozen_the_registry_takes_no_more_but_still_resolves() -> None:
    registry = PublisherRegistry()
    registry.register(PaymentPublisher)

    registry.freeze()

    with pytest.raises(ConfigurationError, match="registered after the app had started"):
        registry.register(Named)
    assert type(registry.resolve("PaymentPublisher")) is PaymentPublisher


@pytest.mark.parametrize(
    "path", ["shop_publishers.PaymentPublisher", "shop_publishers:PaymentPublisher", "shop_publishers::PaymentPublisher"]
)
@pytest.mark.usefixtures("module")
def test_an_import_path_leads_to_a_publisher(path: str) -> None:
    registry = PublisherRegistry()

    found = registry.resolve(path)

    assert type(found) is PaymentPublisher
    assert registry.resolve(path) is found


def test_an_import_path_may_lead_to_an_instance(module: types.ModuleType) -> None:
    assert PublisherRegistry().resolve("shop_publishers.made") is module.made


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("PaymentPublishr", "unknown publisher 'PaymentPublishr'. Did you mean 'PaymentPublisher'? Register it"),
        ("no_such_module.Publisher", "publisher 'no_such_module.Publisher' can't be imported: ModuleNotFoundError"),
        ("shop_publishers.Missing", "publisher 'shop_publishers.Missing' can't be imported: AttributeError"),
        ("shop_publishers.number", "7 is no publisher: derive it from celery_tasker_events.BasePublisher"),
        ("shop_publishers.NeedsArguments", "can't be made: TypeError"),
    ],
)
@pytest.mark.usefixtures("module")
def test_an_unknown_publisher_is_told_with_what_would_help(name: str, message: str) -> None:
    registry = PublisherRegistry()
    registry.register(PaymentPublisher)

    with pytest.raises(ConfigurationError) as caught:
        registry.resolve(name)

    assert message in str(caught.value)


def test_where_no_publisher_is_known_none_is_proposed() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown publisher 'X'\. Register it with"):
        PublisherRegistry().resolve("X")


@pytest.mark.parametrize("wrong", [object(), dict, NeedsArguments])
def test_what_is_no_publisher_can_not_be_registered(wrong: object) -> None:
    with pytest.raises(ConfigurationError):
        PublisherRegistry().register(wrong)


@pytest.mark.usefixtures("module")
def test_publishers_of_the_settings_are_known_by_name_and_the_bad_ones_told() -> None:
    registry = PublisherRegistry()

    problems = list(register_all(registry, ["shop_publishers.Missing", "shop_publishers.PaymentPublisher", "gone.X"]))

    assert [problem.split("'")[1] for problem in problems] == ["shop_publishers.Missing", "gone.X"]
    assert type(registry.resolve("PaymentPublisher")) is PaymentPublisher
