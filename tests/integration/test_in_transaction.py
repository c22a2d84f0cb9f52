"""An event that is written with the user's connection commits or rolls back with the user's rows, whatever the library."""

from __future__ import annotations

import importlib

import psycopg
import pytest
from celery import Celery
from queues import messages
from user_connections import USERS, settled

from celery_tasker_events import DomainEvents, PgmqMissing, QueueMissing, TaskerEventsError
from celery_tasker_events.telemetry.counters import Series

INSERT = "insert into orders values ({})"


class Refused(Exception):
    """The user's code gives up."""


@pytest.fixture(params=USERS, ids=lambda user: user.__name__)
def user_class(request):
    for module in request.param.needs:
        pytest.importorskip(module)
    return request.param


@pytest.fixture
def events():
    """A plugin without a database of its own."""
    app = Celery("web", broker="memory://", set_as_current=False)
    app.conf.update(tasker_events_namespace="shop")
    plugin = DomainEvents(app)
    yield plugin
    plugin.close(5)


def orders(dsn):
    with psycopg.connect(dsn) as connection:
        return [number for (number,) in connection.execute("select id from orders order by id")]


def payloads(dsn):
    return [message["payload"] for message in messages(dsn, "shop")]


async def place(events, user, number):
    """Write an order and its event."""
    await user.execute(INSERT.format(number))
    return await settled(events.publish("order.placed", number, connection=user.handle))


async def place_in_vain(events, user, number):
    """The same, in a transaction that is rolled back."""
    async with user.transaction():
        assert await place(events, user, number)
        raise Refused


def test_a_commit_commits_both(user_class, shop_dsn, events):
    ids = []

    async def scenario(user):
        async with user.transaction():
            ids.append(await place(events, user, 1))
            assert (orders(shop_dsn), payloads(shop_dsn)) == ([], [])

    user_class(shop_dsn).run(scenario)

    assert (orders(shop_dsn), payloads(shop_dsn)) == ([1], [1])
    assert [message["event_id"] for message in messages(shop_dsn, "shop")] == ids
    assert events.counters() == {Series("published", "order.placed", "shop", "transaction"): 1}


def test_a_rollback_rolls_back_both(user_class, shop_dsn, events):
    async def scenario(user):
        with pytest.raises(Refused):
            await place_in_vain(events, user, 1)
        async with user.transaction():
            await place(events, user, 2)

    user_class(shop_dsn).run(scenario)

    assert (orders(shop_dsn), payloads(shop_dsn)) == ([2], [2])


def test_a_savepoint_that_is_rolled_back_takes_its_event_with_it_and_no_other(user_class, shop_dsn, events):
    async def scenario(user):
        async with user.transaction():
            await place(events, user, 1)
            with pytest.raises(Refused):
                await place_in_vain(events, user, 2)
            async with user.transaction():
                await place(events, user, 3)

    user_class(shop_dsn).run(scenario)

    assert (orders(shop_dsn), payloads(shop_dsn)) == ([1, 3], [1, 3])


def test_a_missing_queue_is_told_with_what_to_do_and_commits_nothing(user_class, shop_dsn, events):
    async def flag(user):
        async with user.transaction():
            await user.execute(INSERT.format(1))
            await settled(events.publish("order.flagged", 1, namespace="risk", connection=user.handle))

    async def scenario(user):
        with pytest.raises(QueueMissing, match=r"'risk_domain_events'.*domain-events setup --namespace risk"):
            await flag(user)

    user_class(shop_dsn).run(scenario)

    assert orders(shop_dsn) == []
    assert events.counters() == {Series("failed", "order.flagged", "risk", "transaction"): 1}


def test_a_database_without_pgmq_is_told_with_what_to_do(user_class, bare_dsn, events):
    async def scenario(user):
        with pytest.raises(PgmqMissing, match="domain-events setup"):
            async with user.transaction():
                await settled(events.publish("order.placed", 1, connection=user.handle))

    user_class(bare_dsn).run(scenario)


def test_a_transaction_that_has_failed_already_takes_no_event_and_says_so(user_class, shop_dsn, events):
    async def fail_and_go_on(user):
        async with user.transaction():
            with pytest.raises(Exception, match="division by zero"):
                await user.execute("select 1 / 0")
            await settled(events.publish("order.placed", 1, connection=user.handle))

    async def scenario(user):
        with pytest.raises(Exception, match="current transaction") as caught:
            await fail_and_go_on(user)
        # The driver's own exception, which the user's code may know how to handle.
        assert not isinstance(caught.value, TaskerEventsError)

    user_class(shop_dsn).run(scenario)

    assert payloads(shop_dsn) == []


def test_texts_are_written_as_they_are(user_class, shop_dsn, events):
    payload = {"text": 'naïve "quotes" \\ %s %(x)s :name $1 \\u0000 \U0001f600', "number": 1.5, "none": None}

    async def scenario(user):
        async with user.transaction():
            await settled(events.publish("order.placed", payload, connection=user.handle))

    user_class(shop_dsn).run(scenario)

    assert payloads(shop_dsn) == [payload]


def test_every_kind_of_connection_that_is_known_is_tested():
    from celery_tasker_events.durable.transaction import _ADAPTERS

    known = {path for adapter in _ADAPTERS for path in adapter.classes}
    for module, name in (path.rsplit(".", 1) for path in known):
        pytest.importorskip(module.partition(".")[0])
        assert hasattr(importlib.import_module(module), name)
