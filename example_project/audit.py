"""What a run has seen, put side by side with what its orders must have caused."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from example_project.checkout import Payment


@dataclass
class Audit:
    """All there is to know of a run.

    Attributes:
        counted: What the in-process subscribers noted, one mapping for each event.
        consumed: The messages that the external consumer read from PGMQ.
    """

    payments: Sequence[Payment]
    counted: Sequence[dict[str, Any]]
    consumed: Sequence[dict[str, Any]]

    @classmethod
    def of(cls, payments: Sequence[Payment], counts_file: Path, consumed: Sequence[dict[str, Any]]) -> Audit:
        # Durable events come at least once: a consumer tells a repeated one by its id.
        distinct = {message["event_id"]: message for message in consumed}
        counted = [json.loads(line) for line in counts_file.read_text().splitlines()]
        # Each process notes its own events in their order; those of one order come from several.
        counted.sort(key=lambda line: datetime.datetime.fromisoformat(line["fired_at"]))
        return cls(payments, counted, list(distinct.values()))

    def durable_events(self, payment: Payment) -> Counter[str]:
        """By name, the payment's events that were read from PGMQ."""
        return Counter(
            message["event_name"] for message in self.consumed if message["metadata"]["task_uuid"] == payment.workflow_id
        )

    def in_process_events(self, payment: Payment) -> Counter[str]:
        """By name, the payment's events that the subscribers counted."""
        return Counter(line["event_name"] for line in self.counted if line["task_uuid"] == payment.workflow_id)

    def differences(self) -> list[str]:
        """All that is not as the orders demand, in sentences; empty if the run was right."""
        found = []
        for payment in self.payments:
            order, expected = payment.order, payment.order.expected
            attempts = payment.receipt["attempts"] if payment.receipt else expected.attempts
            if (payment.receipt is not None, attempts) != (expected.paid, expected.attempts):
                found.append(f"{order.order_id} ended as {payment.receipt or payment.refusal!r}, expected {expected}")
            for where, events, wanted in (
                ("read from PGMQ", self.durable_events(payment), Counter(expected.durable)),
                ("counted in process", self.in_process_events(payment), Counter(expected.in_process)),
            ):
                if events != wanted:
                    found.append(f"{order.order_id}: {where} were {dict(events)}, expected {dict(wanted)}")
        if strangers := len(self.counted) - sum(self.in_process_events(payment).total() for payment in self.payments):
            found.append(f"{strangers} events were counted that belong to no order")
        return found

    def summary(self) -> str:
        """The run in one line."""
        paid = [payment.receipt for payment in self.payments if payment.receipt]
        retried = sum(receipt["attempts"] > 1 for receipt in paid)
        return (
            f"Summary: {len(self.payments)} orders, {len(paid)} paid ({retried} after a retry), "
            f"{len(self.payments) - len(paid)} failed; {len(self.consumed)} durable events read from PGMQ, "
            f"{len(self.counted)} events counted in process"
        )
