"""The two steps of a payment. They know nothing of events: the YAML template says what their outcomes mean."""

from __future__ import annotations

from typing import Any

from example_project import gateway
from example_project.app import app


@app.task  # type: ignore[untyped-decorator]  # celery has no type hints  # celery has no type hints
def validate_payment(order: dict[str, Any]) -> dict[str, Any]:
    """Check the order before any money moves, and hand it on to the next step."""
    if order["amount"] <= 0:
        raise gateway.PaymentError("there is nothing to pay")
    if not gateway.is_card_number(order["card"]):
        raise gateway.InvalidCard("this is not the number of a card")
    return order


@app.task(  # type: ignore[untyped-decorator]  # celery has no type hints
    bind=True, autoretry_for=(gateway.GatewayTimeout,), max_retries=3, default_retry_delay=0.2
)
def process_payment(self: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Charge the card; a gateway that does not answer is asked again, up to three times."""
    attempt = self.request.retries + 1
    transaction_id = gateway.charge(order["card"], order["order_id"], attempt)
    return {"transaction_id": transaction_id, "amount": order["amount"], "attempts": attempt}
