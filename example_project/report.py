"""Shows a run to a person: the orders, what the in-process subscribers counted, what the external consumer read."""

from __future__ import annotations

from collections import Counter

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from example_project.audit import Audit
from example_project.checkout import Payment


def show(audit: Audit, console: Console) -> None:
    """Print three tables."""
    for title, table in (
        ("Orders, and the events that they published", _orders(audit)),
        ("Counted by a subscriber inside the worker: fast and broadcast events", _counted(audit)),
        ("Read from PGMQ by an external consumer: durable and broadcast events", _consumed(audit)),
    ):
        console.print(title, style="bold")
        console.print(table)


def _orders(audit: Audit) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Order", no_wrap=True)
    table.add_column("Card", no_wrap=True)
    table.add_column("Amount", justify="right")
    table.add_column("What became of it")
    table.add_column("Events", no_wrap=True)
    for payment in audit.payments:
        order = payment.order
        table.add_row(order.order_id, f"…{order.card[-4:]}", f"{order.amount:.2f}", _outcome(payment), _events(audit, payment))
    return table


def _counted(audit: Audit) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Event", no_wrap=True)
    table.add_column("Times", justify="right")
    table.add_column("In how many processes", justify="right")
    times = Counter(line["event_name"] for line in audit.counted)
    for name in sorted(times):
        processes = {line["process"] for line in audit.counted if line["event_name"] == name}
        table.add_row(name, str(times[name]), str(len(processes)))
    return table


def _consumed(audit: Audit) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Order", no_wrap=True)
    table.add_column("Event", no_wrap=True)
    table.add_column("From step", no_wrap=True)
    table.add_column("Payload")
    for message in audit.consumed:
        payload, metadata = message["payload"], message["metadata"]
        said = (
            f"{payload['transaction_id']}, {payload['amount']:.2f}"
            if message["execution_result"]["success"]
            else f"{payload['error_code']}: {payload['reason']}"
        )
        table.add_row(metadata["order_id"], message["event_name"], metadata["step_name"], said)
    return table


def _outcome(payment: Payment) -> Text:
    if payment.receipt is None:
        return Text(f"failed: {payment.refusal}", style="red")
    attempts = payment.receipt["attempts"]
    return Text("paid" if attempts == 1 else f"paid at attempt {attempts}", style="green" if attempts == 1 else "yellow")


def _events(audit: Audit, payment: Payment) -> str:
    in_process, durable = audit.in_process_events(payment), audit.durable_events(payment)
    lines = []
    # Both paths carry a broadcast event, with the same id: it was published once.
    for name, times in (in_process | durable).items():
        mode = "broadcast" if name in in_process and name in durable else "fast" if name in in_process else "durable"
        lines.append(f"{name} ({mode})" + (f" ×{times}" if times > 1 else ""))  # noqa: RUF001  # the sign that people read as "times"
    return "\n".join(lines)
