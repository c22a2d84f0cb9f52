"""A broker that hangs in the middle is a target that can't be used, after the time that it may take; the next try works."""

from __future__ import annotations

import datetime
import threading
import uuid
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from consuming import event
from kombu import Connection
from services import RABBITMQ, REDIS, Service, url_of
from tcp_proxy import TcpProxy

from celery_tasker_events.consumer.delivery import Delivery, Message, open_message
from celery_tasker_events.consumer.targets import Outcome, Target, TargetOptions, TargetUnavailable, target_for
from celery_tasker_events.envelope import by_name


def delivery() -> Delivery:
    body = by_name("native").to_message(event(1)).decode()
    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    return open_message(Message("payments_domain_events", 1, 1, moment, body, None))


def ended(call: Callable[[], Outcome], what: str) -> Outcome:
    """What a call returns or raises; it fails the test if it does neither."""
    found: list[Outcome] = []

    def run() -> None:
        try:
            found.append(call())
        except TargetUnavailable as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert found, f"{what} hangs"
    return found[0]


@pytest.mark.parametrize("service", [RABBITMQ, REDIS], ids=lambda service: service.name)
@pytest.mark.parametrize("kind", ["broker", "celery"])
def test_it_is_waited_for_no_longer_than_it_may_take(kind: str, service: Service) -> None:
    url, name = url_of(service), f"forwarded_{uuid.uuid4().hex}"
    address = urlsplit(url)

    def publish(target: Target) -> Outcome:
        target.open()
        try:
            return target.publish([delivery()])[0]
        finally:
            target.close()

    def after_freezing(target: Target) -> Outcome:
        target.open()
        assert target.publish([delivery()])[0] is None
        proxy.freeze()
        try:
            return target.publish([delivery()])[0]
        finally:
            target.close()

    with TcpProxy(str(address.hostname), int(str(address.port))) as proxy:
        through = proxy.before(url)
        if kind == "broker":
            target = target_for(through, TargetOptions(exchange=name, queue=name, timeout=1))
        else:
            target = target_for("celery://crm.book", TargetOptions(broker=through, queue=name, timeout=1))
        assert isinstance(ended(lambda: after_freezing(target), "publishing"), TargetUnavailable)
        assert isinstance(ended(lambda: publish(target), "opening"), TargetUnavailable)
        proxy.restore()
        assert publish(target) is None

    with Connection(url) as connection:
        channel = connection.channel()
        channel.queue_delete(name)
        channel.exchange_delete(name)
