"""Pays the orders: sends each to the worker as a workflow of two steps, and waits until all have ended well or badly."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from celery import chain
from celery.backends.rpc import RPCBackend
from celery.result import AsyncResult
from kombu.exceptions import OperationalError

from example_project.app import app
from example_project.interruption import Interruption
from example_project.orders import Order
from example_project.services import ServiceError, Worker, WorkerError
from example_project.tasks import process_payment, validate_payment


@dataclass
class Payment:
    """One order on its way.

    Attributes:
        workflow_id: Celery's id of the first step, by which all events of the workflow are known (``task_uuid``).
        receipt: What the last step returned; None until then, and for good if the payment failed.
        refusal: Why it failed.
    """

    order: Order
    workflow_id: str
    steps: Sequence[AsyncResult]
    receipt: dict[str, Any] | None = None
    refusal: str | None = None

    def has_ended(self) -> bool:
        """Look, and note how."""
        for step in self.steps:
            if step.failed():
                # The next step will never run.
                self.refusal = str(step.result)
                return True
        if self.steps[-1].successful():
            self.receipt = self.steps[-1].result
        return self.receipt is not None


def pay(order: Order) -> Payment:
    """Send an order to the worker.

    Raises:
        ServiceError: if the broker has gone away.
    """
    try:
        last = chain(validate_payment.s(order.to_message()), process_payment.s()).apply_async()
    except OperationalError as error:
        raise ServiceError(f"{order.order_id} could not be sent to the worker: {error}") from error
    return Payment(order, last.parent.id, [last.parent, last])


def wait_for(payments: Sequence[Payment], worker: Worker, interruption: Interruption, timeout: float) -> None:
    """Wait until all payments have ended.

    Args:
        timeout: Seconds that may pass without any of them ending.

    Raises:
        WorkerError: if the worker ends before they do, or the time is up.
        Interrupted: if the run was asked to stop.
    """
    waiting = list(payments)
    deadline = time.monotonic() + timeout
    while still_waiting := [payment for payment in waiting if not payment.has_ended()]:
        if len(still_waiting) < len(waiting):
            deadline = time.monotonic() + timeout
        waiting = still_waiting
        worker.check()
        if time.monotonic() > deadline:
            orders = ", ".join(payment.order.order_id for payment in waiting)
            raise WorkerError(f"no result came within {timeout:g} s for {orders}")
        interruption.pause()


def tidy_up() -> None:
    """Leave nothing of this run in a broker that others use too."""
    queue = app.amqp.queues[app.conf.task_default_queue]
    connection = app.connection_for_write()
    # A broker that has gone away is not worth a second error.
    with suppress(*connection.connection_errors, *connection.channel_errors), connection, connection.channel() as channel:
        # Redis needs to be told of a queue's bindings, by the connection that deletes it, to delete them too.
        queue(channel).declare()
        queue(channel).delete()
        queue.exchange(channel).delete()
        if isinstance(app.backend, RPCBackend):
            app.backend.binding(channel).delete()
    app.close()
