"""An app whose payments fail in this process, on a real database, and the commands about its dead letters."""

from __future__ import annotations

import json
from typing import Any

import click.testing
from celery import Celery
from celery.bin.base import CLIContext
from queues import messages

from celery_tasker_events import BasePublisher, DomainEvents, publishes_events
from celery_tasker_events.cli.celery_command import domain_events
from celery_tasker_events.cli.main import main

AMOUNT = {"type": "object", "required": ["amount"]}


class PayingShop:
    """An app whose tasks run in this process, on a real database."""

    def __init__(self, dsn: str, *, schema: Any = AMOUNT, publisher: type[BasePublisher] | None = None, **settings: Any) -> None:
        self.app = Celery("shop", broker="memory://", set_as_current=False)
        self.app.conf.update({f"tasker_events_{key}": value for key, value in {"dsn": dsn, **settings}.items()})
        self.events = DomainEvents(self.app)
        if publisher is not None:
            self.events.register_publisher(publisher)
        name = publisher.__name__ if publisher else None

        @self.app.task(name="shop.pay", shared=False)
        @publishes_events(
            "payment.processed", namespace="payments", delivery_mode="broadcast", schema=schema, publisher=name, version="2.0"
        )
        def pay(result: Any) -> Any:
            return result

        self._pay = pay

    def pay(self, *results: Any) -> None:
        for result in results:
            self._pay.apply((result,))
        assert self.events.drain(60)

    def run(self, *arguments: str, **options: Any) -> click.testing.Result:
        context: Any = CLIContext(app=self.app, no_color=True, workdir=None)
        return click.testing.CliRunner().invoke(domain_events, ["dlq", *arguments], obj=context, **options)


def run_alone(dsn: str, command: str, *arguments: str, **options: Any) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["dlq", command, "--dsn", dsn, *arguments], **options)


def letters(dsn: str, namespace: str = "payments") -> list[dict[str, Any]]:
    return messages(dsn, namespace, dead_letters=True)


def listed(result: click.testing.Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
