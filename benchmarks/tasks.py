"""The task of all contestants, what it returns, and the event that tells of it. Nothing of the plugin is imported here."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

__all__ = ["LINGER_MS", "NAMESPACE", "QUEUE", "RESULT", "SCHEMA", "event_of", "no_op"]

NAMESPACE = "payments"
QUEUE = f"{NAMESPACE}_domain_events"

#: Milliseconds for which events gather, where that is compared.
LINGER_MS = 10

#: An event that tells of it has about 600 bytes on the wire.
RESULT = {"transaction_id": "TXN-1", "amount": 99.99, "currency": "EUR"}

SCHEMA = {
    "type": "object",
    "required": ["transaction_id", "amount"],
    "properties": {
        "transaction_id": {"type": "string", "minLength": 1},
        "amount": {"type": "number", "minimum": 0},
        "currency": {"enum": ["EUR", "USD", "GBP"]},
    },
}

_ID = "00000000-0000-4000-8000-000000000000"


def no_op() -> dict[str, Any]:
    """A task's function: what it returns says when."""
    return {**RESULT, "at": time.monotonic()}


def event_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """What people send who write their own events: as many bytes as the plugin's."""
    return {
        "event_id": _ID,
        "event_name": "payment.processed",
        "event_version": "1.0",
        "payload": payload,
        "execution_result": {
            "success": True,
            "status": "completed",
            "error": None,
            "metadata": {"attempt": 1, "redelivered": False, "execution_time_ms": 0.2},
        },
        "metadata": {
            "task_uuid": _ID,
            "step_uuid": _ID,
            "step_name": "no_op",
            "namespace": NAMESPACE,
            "correlation_id": _ID,
            "fired_at": "2025-12-01T10:00:00.123456Z",
            "fired_by": "bench@host",
            "idempotency_key": _ID.replace("-", ""),
        },
    }
