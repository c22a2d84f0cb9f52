"""Nodes that are pytest-celery's containers, for machines with a Docker engine: its worker, RabbitMQ, and a Postgres.

The tests are developed where there is no engine. What is checked here without one is only that the fixtures fit
together (``SMOKE_NODES=containers pytest tests/smoke --setup-plan``): expect to mend something on the first real run.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from pytest_celery import (
    DEFAULT_WORKER_CONTAINER_TIMEOUT,
    CeleryBrokerCluster,
    CeleryTestSetup,
    CeleryWorkerContainer,
    RabbitMQTestBroker,
)
from pytest_docker_tools import build, container, fetch, fxtr, network
from pytest_docker_tools.wrappers import Container

from celery_tasker_events.durable.pool import connect
from celery_tasker_events.durable.queues import set_up

from .database import QUEUES, Database

# Results come back through the broker: no backend node, and no client library for one.
RESULT_BACKEND = "rpc://"

_numbers = itertools.count()

# pytest-celery's own network lives for one test, and Postgres for the session.
default_pytest_celery_network = network(scope="session")

postgres_image = fetch(repository="postgres:18-alpine")

postgres = container(
    scope="session",
    image="{postgres_image.id}",
    environment={"POSTGRES_HOST_AUTH_METHOD": "trust"},
    ports={"5432/tcp": None},
    network="{default_pytest_celery_network.name}",
    timeout=60,
)

shop_image = build(
    path=str(Path(__file__).parents[2]),
    dockerfile="tests/smoke/Dockerfile",
    tag="celery-tasker-events/smoke",
)

default_worker_container = container(
    image="{shop_image.id}",
    environment=fxtr("default_worker_env"),
    network="{default_pytest_celery_network.name}",
    command=fxtr("default_worker_command"),
    wrapper_class=CeleryWorkerContainer,
    timeout=DEFAULT_WORKER_CONTAINER_TIMEOUT,
)


@pytest.fixture
def database(postgres: Container) -> Database:
    name = f"shop_{next(_numbers)}"
    host, port = postgres.get_addr("5432/tcp")
    dsn = f"postgresql://postgres@{host}:{port}/{name}"
    with connect(f"postgresql://postgres@{host}:{port}/postgres") as connection:
        connection.execute(f"create database {name}")
    with connect(dsn) as connection:
        set_up(connection, QUEUES)
    # Inside the network a container is known by its short id.
    return Database(dsn, worker_dsn=f"postgresql://postgres@{postgres.id[:12]}:5432/{name}")


@pytest.fixture
def celery_broker_cluster(celery_rabbitmq_broker: RabbitMQTestBroker) -> CeleryBrokerCluster:
    return CeleryBrokerCluster(celery_rabbitmq_broker)


@pytest.fixture
def celery_backend_cluster() -> None: ...


@pytest.fixture
def celery_setup_config(celery_setup_cls: type[CeleryTestSetup], celery_worker_cluster_config: dict[str, Any]) -> dict[str, Any]:
    return {**celery_setup_cls.config(celery_worker_cluster_config), "result_backend": RESULT_BACKEND}


@pytest.fixture
def default_worker_command() -> list[str]:
    # Two children are enough, and on a machine with many processors quicker than one for each.
    return CeleryWorkerContainer.command("--concurrency=2")


@pytest.fixture
def default_worker_env(celery_worker_cluster_config: dict[str, Any], database: Database) -> dict[str, str]:
    settings = {
        "broker_url": ";".join(celery_worker_cluster_config["celery_broker_cluster_config"]["urls"]),
        "result_backend": RESULT_BACKEND,
        "tasker_events_dsn": database.worker_dsn,
    }
    return {"SHOP_SETTINGS": json.dumps(settings)}
