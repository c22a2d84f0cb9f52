"""A custom publisher: it decides what the world may know of a payment. The YAML template names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery_tasker_events import BasePublisher, EventDeclaration, StepContext, StepResult


class PaymentEventPublisher(BasePublisher):
    """Adds to each event which order it is about and who took the money, and keeps card numbers out of all of them."""

    def should_publish(self, step_result: StepResult, declaration: EventDeclaration, context: StepContext) -> bool:
        """A payment without a transaction can't be found again by anyone: it is not worth an event."""
        return declaration.name != "payment.processed" or bool(step_result.result.get("transaction_id"))

    def transform_payload(self, step_result: StepResult, declaration: EventDeclaration, context: StepContext) -> dict[str, Any]:
        """On success what the step returned; on failure, by the base class, ``error_code`` and ``reason``."""
        payload: dict[str, Any] = dict(super().transform_payload(step_result, declaration, context))
        payload.pop("card", None)
        return {**payload, "payment_method": "credit_card", "card_ends_in": context.args[0]["card"][-4:]}

    def additional_metadata(
        self, step_result: StepResult, declaration: EventDeclaration, context: StepContext
    ) -> Mapping[str, Any]:
        """Stands in the event's metadata beside the workflow's and the step's ids."""
        return {"payment_provider": "simulated-gateway", "order_id": context.args[0]["order_id"]}
