"""The cloudevents envelope: structured-mode CloudEvents 1.0, a JSON object of the type ``application/cloudevents+json``.

The data is the payload and nothing else. An attribute of a CloudEvent is a string, a boolean or an integer, so what is
none of these travels as JSON in the text of an attribute: ``executionresult`` is the whole result of the step, and
``moremetadata`` is what a publisher added. A string that no attribute may have, because it is empty or has control
characters in it, travels in the same way, in an attribute with ``json`` at the end of its name.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from celery_tasker_events import values
from celery_tasker_events.envelope.base import (
    METADATA_FIELDS,
    Envelope,
    metadata_of,
    object_schema,
    read_metadata,
    workflow_group,
)
from celery_tasker_events.envelope.native import execution_of, read_execution
from celery_tasker_events.event import DomainEvent

__all__ = ["CloudEventsEnvelope"]

#: Where each field of the metadata stands: names of attributes are lower-case letters and digits.
_ATTRIBUTES = {field: "time" if field == "fired_at" else field.replace("_", "") for field in METADATA_FIELDS}

# Null in an event is no attribute at all.
_NULLABLE = frozenset({"task_uuid", "step_uuid", "step_name"})

# Control characters and what Unicode calls noncharacters: the specification bans them from strings.
_BANNED = re.compile(
    "[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef" + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF)) + "]"
)


class CloudEventsEnvelope(Envelope):
    name = "cloudevents"
    content_type = "application/cloudevents+json"
    correlation_id = "/correlationid"

    def to_message(self, event: DomainEvent, traceparent: str | None = None) -> bytes:
        metadata, result = event.metadata, event.execution_result
        message: dict[str, Any] = {
            "specversion": "1.0",
            "id": event.event_id,
            "source": _source(metadata.namespace, metadata.step_name),
            "type": event.event_name,
            "datacontenttype": "application/json",
            "success": result.success,
        }
        # For filters and brokers: a consumer finds each of these a second time, in what follows.
        for attribute, hint in (
            ("subject", metadata.step_uuid),
            ("partitionkey", workflow_group(event.metadata.task_uuid, event.metadata.correlation_id)),
            ("status", result.status),
            ("errortype", result.error and result.error.type),
            ("traceparent", traceparent),
        ):
            if hint and _is_valid(hint):
                message[attribute] = hint
        attempt = result.metadata.get("attempt")
        if type(attempt) is int and abs(attempt) < 2**31:
            message["attempt"] = attempt
        more = metadata_of(event)
        for field, attribute in _ATTRIBUTES.items():
            _add(message, attribute, more.pop(field))
        _add(message, "eventversion", event.event_version)
        message["executionresult"] = _text(execution_of(event))
        if more:
            message["moremetadata"] = _text(more)
        message["data"] = event.payload
        return values.encode(message)

    def from_message(self, message: Mapping[str, Any]) -> DomainEvent:
        metadata = dict(values.decode(message["moremetadata"])) if "moremetadata" in message else {}
        for field, attribute in _ATTRIBUTES.items():
            metadata[field] = _get(message, attribute, nullable=field in _NULLABLE)
        return DomainEvent(
            event_id=message["id"],
            event_name=message["type"],
            event_version=_get(message, "eventversion"),
            # A null is no data to some CloudEvents libraries, which leave it out when they pass an event on.
            payload=message.get("data"),
            metadata=read_metadata(metadata),
            execution_result=read_execution(values.decode(message["executionresult"])),
        )

    def amended(self, message: Mapping[str, Any], idempotency_key: str, more: Mapping[str, str]) -> dict[str, Any]:
        amended = {name: value for name, value in message.items() if name not in ("idempotencykey", "idempotencykeyjson")}
        _add(amended, "idempotencykey", idempotency_key)
        kept = json.loads(message["moremetadata"]) if "moremetadata" in message else {}
        amended["moremetadata"] = _text({**kept, **more})
        return amended

    def recognises(self, message: Mapping[str, Any]) -> bool:
        return message.get("specversion") == "1.0" and "executionresult" in message

    def json_schema(self, name: str, version: str, namespace: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        always = {
            "specversion": {"enum": ["1.0"]},
            "id": {"type": "string", "description": "UUIDv7, unique for each event."},
            "source": {"type": "string", "description": "Which step of which namespace: /<namespace>/<step name>."},
            "type": {"enum": [name]},
            "datacontenttype": {"enum": ["application/json"]},
            "time": {"type": "string", "format": "date-time", "description": "When the outcome was known, UTC."},
            "namespace": {"enum": [namespace]},
            "success": {"type": "boolean"},
            "executionresult": {"type": "string", "description": "The whole execution result, as JSON text."},
            "data": payload,
        }
        texts = {attribute: {"type": "string"} for attribute in (*_ATTRIBUTES.values(), *_HINTS)}
        sometimes = {**texts, "eventversion": {"enum": [version]}, "attempt": {"type": "integer"}}
        return object_schema({**sometimes, **always}, optional=sometimes.keys() - always.keys())


#: Attributes that are there where a CloudEvent may have their value.
_HINTS = ("subject", "partitionkey", "status", "errortype", "traceparent", "moremetadata")


@functools.lru_cache(maxsize=1024)
def _source(namespace: str, step_name: str | None) -> str:
    """Return which step of which namespace announces the event, as a relative URI reference."""
    return f"/{namespace}" if step_name is None else f"/{namespace}/{quote(step_name, safe='')}"


def _add(message: dict[str, Any], attribute: str, value: str | None) -> None:
    if value is None:
        return
    if value and _is_valid(value):
        message[attribute] = value
    else:
        message[f"{attribute}json"] = _text(value)


def _get(message: Mapping[str, Any], attribute: str, *, nullable: bool = False) -> Any:
    if attribute not in message and (text := message.get(f"{attribute}json")) is not None:
        return values.decode(text)
    return message.get(attribute) if nullable else message[attribute]


def _is_valid(value: str) -> bool:
    # What can be printed has nothing banned in it, and asking so costs a tenth.
    return value.isprintable() or _BANNED.search(value) is None


def _text(value: Any) -> str:
    """Return the value as JSON that is a valid string of a CloudEvent."""
    text = values.encode(value).decode()
    # A banned character can only stand inside a string of that JSON, and there an escape stands for it as well.
    return text if text.isprintable() else _BANNED.sub(lambda banned: json.dumps(banned[0])[1:-1], text)
