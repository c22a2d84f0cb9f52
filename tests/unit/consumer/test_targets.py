"""Which target a URL means, what it may be given, and how a webhook is signed."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac

import pytest

from celery_tasker_events.consumer.delivery import Message, open_message
from celery_tasker_events.consumer.failing import Rejected
from celery_tasker_events.consumer.forwarder import Forwarder
from celery_tasker_events.consumer.targets import NotNow, TargetOptions, TargetUnavailable, schemes, target_for
from celery_tasker_events.consumer.targets.base import content_type_of, masked
from celery_tasker_events.consumer.targets.celery_target import CeleryTarget, task_id_of
from celery_tasker_events.consumer.targets.http_target import HttpTarget, _judge, signature
from celery_tasker_events.consumer.targets.kombu_target import KombuTarget
from celery_tasker_events.consumer.targets.stdout import StdoutTarget
from celery_tasker_events.envelope import by_name
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.event import DomainEvent, EventMetadata, ExecutionResult

DSN = "postgresql://nobody@127.0.0.1/nowhere"
MOMENT = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("amqp://guest:guest@127.0.0.1//", KombuTarget),
        ("amqps://host", KombuTarget),
        ("redis://127.0.0.1/1", KombuTarget),
        ("sqs://", KombuTarget),
        ("confluentkafka://host", KombuTarget),
        ("sqla+sqlite:///x", KombuTarget),
        ("https://host/hook", HttpTarget),
        ("stdout:", StdoutTarget),
        ("stdout", StdoutTarget),
    ],
)
def test_the_scheme_says_which_target_it_is(url, kind):
    assert type(target_for(url)) is kind


def test_a_task_of_another_app_needs_that_apps_broker():
    assert type(target_for("celery://crm.book", TargetOptions(broker="redis://h"))) is CeleryTarget
    with pytest.raises(ConfigurationError, match="--broker"):
        target_for("celery://crm.book")


@pytest.mark.parametrize("url", ["ampq://user:hunter2@host", "hunter2", "", "://hunter2"])
def test_what_is_no_target_is_an_error_that_does_not_repeat_the_url(url):
    with pytest.raises(ConfigurationError) as caught:
        target_for(url)

    assert "hunter2" not in str(caught.value)


def test_a_scheme_that_is_nearly_right_is_suggested():
    with pytest.raises(ConfigurationError, match="Did you mean 'amqp'"):
        target_for("ampq://host")


def test_an_option_that_means_nothing_to_the_target_is_an_error():
    with pytest.raises(ConfigurationError, match="stdout: has no use for exchange and secret"):
        target_for("stdout:", TargetOptions(exchange="x", secret="y"))


@pytest.mark.parametrize("url", ["https://user:hunter2@host/hunter2?key=hunter2", "http://[/hunter2", "http:///hunter2"])
def test_the_error_about_a_webhook_shows_nothing_that_is_secret(url):
    with pytest.raises(ConfigurationError) as caught:
        target_for(url, TargetOptions(queue="x"))

    assert "hunter2" not in str(caught.value)


def test_a_routing_key_with_an_unknown_field_is_an_error():
    with pytest.raises(ConfigurationError, match="event_name"):
        target_for("amqp://host", TargetOptions(routing_key="{nmae}"))


@pytest.mark.parametrize(
    "url",
    [
        "amqp://user:hunter2@host:5672/vhost",
        "amqp://user:hun:ter2@host;amqp://user:hunter2@other",
        "redis://:hunter2@host/1",
        "amqp://user:p@hunter2@host",
        "redis://host/0?password=hunter2",
    ],
)
def test_no_password_is_shown(url):
    assert "ter2" not in masked(url)
    assert "ter2" not in target_for(url).shown


def test_the_path_of_a_webhook_is_not_shown():
    assert target_for("https://user:hunter2@host:8443/services/hunter2?key=hunter2").shown == "https://host:8443"


def test_the_signature_is_the_hmac_of_id_time_and_body():
    key = b"0123456789abcdef"
    expected = base64.b64encode(hmac.new(key, b"msg_1.1700000000.{}", hashlib.sha256).digest()).decode()

    assert signature(f"whsec_{base64.b64encode(key).decode()}", "msg_1", 1700000000, b"{}") == f"v1,{expected}"
    assert signature(key.decode(), "msg_1", 1700000000, b"{}") == f"v1,{expected}"


def test_the_signature_is_that_of_the_standards_own_example():
    body = b'{"test": 2432232314}'

    signed = signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)

    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", ["", "whsec_!"])
def test_a_secret_that_is_none_is_an_error(secret):
    with pytest.raises(ConfigurationError, match="secret"):
        target_for("https://host", TargetOptions(secret=secret))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *[(200, type(None)), (204, type(None)), (400, Rejected), (404, Rejected), (408, NotNow), (425, NotNow), (500, NotNow)],
        *[(301, TargetUnavailable), (429, TargetUnavailable), (502, TargetUnavailable), (503, TargetUnavailable)],
    ],
)
def test_what_an_answer_of_a_webhook_means(status, kind):
    assert type(_judge("https://host", status, None)) is kind


def test_the_id_of_a_started_task_is_the_same_for_the_same_event_and_another_for_another_task():
    assert task_id_of("a.b", "1") == task_id_of("a.b", "1")
    assert len({task_id_of("a.b", "1"), task_id_of("a.b", "2"), task_id_of("a.c", "1")}) == 3


@pytest.mark.parametrize(
    ("envelope", "expected"),
    [("native", "application/json"), ("tasker", "application/json"), ("cloudevents", "application/cloudevents+json")],
)
def test_the_content_type_is_that_of_the_envelope(envelope, expected):
    metadata = EventMetadata("w", "s", "pay", "payments", "w", MOMENT, "worker@host", "key")
    event = DomainEvent("id", "payment.processed", 1, metadata, ExecutionResult(True, "completed", None, {}))
    body = by_name(envelope).to_message(event).decode()

    assert content_type_of(open_message(Message("q", 1, 1, MOMENT, body, None))) == expected


def test_a_choice_of_events_needs_a_word_about_the_others():
    with pytest.raises(ConfigurationError, match="--others"):
        Forwarder(DSN, "payments", to="stdout:", events=["payment.*"])
    Forwarder(DSN, "payments", to="stdout:", events=["payment.*"], others="archive")


@pytest.mark.parametrize("others", ["dead_letter", "archived", ""])
def test_what_becomes_of_the_others_is_one_of_two(others):
    with pytest.raises(ConfigurationError, match=f"others is '{others}': it must be one of archive, delete"):
        Forwarder(DSN, "payments", to="stdout:", events=["payment.*"], others=others)


def test_every_scheme_has_a_target_that_begins_with_it():
    assert {"amqp", "redis", "sqs", "confluentkafka", "http", "https", "stdout", "celery"} <= set(schemes())
