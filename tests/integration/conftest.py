"""Fixtures for tests with real worker processes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from browser import Browser, opened
from celery import Celery
from celery.result import AsyncResult
from http_receiver import Receiver, receiving
from paying_shop import PayingShop
from psycopg import sql
from psycopg.conninfo import make_conninfo
from services import POSTGRES, url_of
from worker_process import WorkerProcess, close, folder_broker, producer

from celery_tasker_events import DomainEvents, publishes_events
from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import create_queues, set_up

APPS = Path(__file__).parent / "apps"


class Shop:
    """Workers of ``apps/shop.py`` and a client of them, on a broker of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.settings = folder_broker(folder / "broker")
        self.client = producer(self.settings)
        self.workers: list[WorkerProcess] = []
        self.queue: str | None = None

    def use_broker(self, url: str) -> None:
        """Go through a server, with a queue of this shop's own that is removed in the end."""
        self.queue = f"tasker_events_test_{uuid.uuid4().hex}"
        self.settings = {
            "broker_url": url,
            "result_backend": "rpc://" if url.startswith("amqp") else url,
            "task_default_queue": self.queue,
            "control_exchange": self.queue,
            "event_exchange": f"{self.queue}.events",
        }
        self.client = producer(self.settings)

    def start(
        self,
        *options: str,
        pool: str = "prefork",
        concurrency: int = 2,
        app: str = "shop",
        environment: dict[str, str] | None = None,
        wait_ready: bool = True,
        **settings: Any,
    ) -> WorkerProcess:
        """Start a worker. Keywords are settings, without their prefix ``tasker_events_``."""
        conf = {**self.settings, **{f"tasker_events_{key}": value for key, value in settings.items()}}
        log = self._folder / f"worker-{len(self.workers)}.log"
        environment = {"SHOP_SETTINGS": json.dumps(conf), **(environment or {})}
        worker = WorkerProcess(app, APPS, log, environment, *options, pool=pool, concurrency=concurrency)
        self.workers.append(worker)
        return worker.start(wait_ready=wait_ready)

    def send(self, task: str, *args: Any, **kwargs: Any) -> AsyncResult[Any]:
        return self.client.send_task(f"shop.{task}", args, kwargs)

    def kill(self) -> None:
        for worker in self.workers:
            worker.kill()
        if self.queue is not None:
            with self.client.connection_for_write() as connection:
                connection.default_channel.queue_delete(self.queue)
        close(self.client)


@pytest.fixture(scope="session")
def make_shop() -> Iterator[Callable[[Path], Shop]]:
    """Makes shops for fixtures of any scope; their workers are gone when the session ends."""
    shops: list[Shop] = []

    def make(folder: Path) -> Shop:
        shops.append(Shop(folder))
        return shops[-1]

    yield make
    for shop in shops:
        shop.kill()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.kill()


@pytest.fixture
def tcp_dsn() -> Iterator[str]:
    """A database of its own, with PGMQ, on a Postgres that is reached over TCP."""
    server = url_of(POSTGRES)
    name = f"tasker_events_test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        dsn = make_conninfo(server, dbname=name)
        with connect(dsn) as inside:
            set_up(inside, ())
        yield dsn
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def module_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop for tests that look at different sides of one run."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
    yield shop
    shop.kill()


@pytest.fixture
def spool_dir(tmp_path: Path) -> str:
    """A folder for the spool of this test alone."""
    return str(tmp_path / "spool")


@pytest.fixture
def publish_to(spool_dir: str) -> Iterator[Callable[..., DomainEvents]]:
    """Makes plugins of apps in this process, which publish to that DSN; settings go without their prefix."""
    plugins: list[DomainEvents] = []

    def make(dsn: Any, **settings: Any) -> DomainEvents:
        app = Celery("publisher", broker="memory://", set_as_current=False)
        given = {"dsn": dsn, "spool_dir": spool_dir, **settings}
        app.conf.update({f"tasker_events_{key}": value for key, value in given.items()})
        plugins.append(DomainEvents(app))
        return plugins[-1]

    yield make
    for plugin in plugins:
        plugin.close(1)


@pytest.fixture
def shop_dsn(dsn: str) -> str:
    """A database with PGMQ, the queue of the namespace ``shop``, and a table of the user's."""
    with psycopg.connect(dsn) as connection:
        create_queues(connection, ["shop_domain_events"])
        connection.execute("create table orders (id int)")
    return dsn


@pytest.fixture
def paid(dsn: str) -> Iterator[Callable[..., str]]:
    """Pays two orders and fails to pay one, each in a workflow of its own, with an app of that envelope; returns the DSN."""
    plugins = []

    def pay(envelope_name: str = "native") -> str:
        app = Celery("shop", broker="memory://", set_as_current=False)
        app.conf.update(tasker_events_dsn=dsn, tasker_events_envelope=envelope_name)
        events = DomainEvents(app)
        plugins.append(events)

        @app.task(shared=False, name="process_payment")
        @publishes_events("payment.processed", namespace="payments")
        @publishes_events("payment.failed", namespace="payments", condition="failure")
        def process_payment(order: int) -> dict[str, int]:
            if order == 3:
                raise ValueError("no money")
            return {"order": order}

        for number in (1, 2, 3):
            process_payment.apply([number], task_id=f"order-{number}")
        assert events.drain(30)
        return dsn

    yield pay
    for events in plugins:
        events.close(5)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks."""
    with receiving() as server:
        yield server


@pytest.fixture
def open_shop(dsn: str) -> Iterator[Callable[..., PayingShop]]:
    """Opens shops on one database, whose tasks run in this process."""
    shops: list[PayingShop] = []

    def make(**fields: Any) -> PayingShop:
        shops.append(PayingShop(dsn, **fields))
        return shops[-1]

    yield make
    for shop in shops:
        shop.events.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for all tests of this process: to start it takes longer than most of them."""
    with opened() as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """The browser as a new user has it."""
    chromium.driver.delete_all_cookies()
    chromium.look()
    chromium.complaints()
    return chromium
