"""Makes catalog entries, right in every field; a test changes what it is about."""

from __future__ import annotations

from typing import Any

from celery_tasker_events.contract.entry import CatalogEntry

PAYMENT: dict[str, Any] = {
    "type": "object",
    "required": ["transaction_id", "amount"],
    "properties": {
        "transaction_id": {"type": "string", "description": "As the gateway knows it"},
        "amount": {"type": "number", "minimum": 0},
    },
}

#: References of every kind that stay within a schema.
LINKED: dict[str, Any] = {
    "$id": "https://example.com/tree",
    "type": "object",
    "required": ["money", "children"],
    "properties": {
        "money": {"$ref": "#/definitions/Mo~1ney"},
        "other": {"$ref": "#money"},
        "children": {"type": "array", "items": {"$ref": "#"}, "maxItems": 3},
        "$ref": {"type": "string"},
        "odd": {"enum": [{"$ref": "#/definitions/none"}]},
    },
    "definitions": {
        "Mo/ney": {"$id": "#money", "type": "object", "required": ["cents"], "properties": {"cents": {"type": "integer"}}}
    },
}


def make_entry(event: str = "payment.processed", **changes: Any) -> CatalogEntry:
    fields: dict[str, Any] = {
        "version": "1.0",
        "namespace": "payments",
        "condition": "success",
        "delivery_mode": "durable",
        "task": "shop.pay",
        "step": "charge",
        "template": "payments/checkout",
        "template_version": "1.0.0",
        "schema": PAYMENT,
    }
    return CatalogEntry(event, **{**fields, **changes})
