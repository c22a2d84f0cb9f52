"""The declared events as an AsyncAPI 3 document: a channel for each queue, a message for each event in each version."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from celery_tasker_events.contract.entry import CatalogEntry
from celery_tasker_events.contract.messages import EventMessage, component_name, messages_of
from celery_tasker_events.contract.subschemas import moved, resolve
from celery_tasker_events.envelope import Envelope
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.event import queue_name

__all__ = ["DECLARED", "asyncapi_document", "entries_of_document"]

VERSION = "3.0.0"

#: Where the document holds the declarations themselves, fast ones included, which have no channel.
DECLARED = "x-domain-events"

_SCHEMAS = "#/components/schemas/"

_HEADERS = {
    "type": "object",
    "description": "PGMQ headers; PGMQ before 1.5 has none.",
    "properties": {
        "idempotency_key": {"type": "string"},
        "x-pgmq-group": {"type": "string", "description": "The workflow: PGMQ's grouped reads give each in order."},
        "traceparent": {"type": "string", "description": "W3C trace context, where the step was traced."},
    },
}

#: ``$schema`` to the version in AsyncAPI's schemaFormat; without one it is draft-07, which AsyncAPI takes as it is.
_DIALECTS = {
    "http://json-schema.org/draft-04/schema": "draft-04",
    "http://json-schema.org/draft-06/schema": "draft-06",
    "https://json-schema.org/draft/2019-09/schema": "draft-2019-09",
    "https://json-schema.org/draft/2020-12/schema": "draft-2020-12",
}

_ASYNCAPIS_OWN = frozenset({"deprecated", "discriminator", "externalDocs"})

_DRAFT_3 = "http://json-schema.org/draft-03/schema"


def asyncapi_document(entries: Iterable[CatalogEntry], envelope: Envelope, title: str, version: str) -> dict[str, Any]:
    """Return the document, the same for the same events, whatever their order.

    Args:
        envelope: In which the messages are.
        title: Of the application.
        version: Of the application's interface.
    """
    entries = sorted(entries, key=CatalogEntry.order)
    schemas = _Schemas(entries)
    messages = [message for message in messages_of(entries) if message.is_durable]
    queues: dict[str, list[EventMessage]] = {}
    for message in messages:
        queues.setdefault(queue_name(message.namespace), []).append(message)
    return {
        "asyncapi": VERSION,
        "info": {
            "title": title,
            "version": version,
            "description": f"Domain events in PGMQ queues, in the {envelope.name} envelope.",
        },
        "defaultContentType": envelope.content_type,
        "channels": {queue: _channel(queue, of_queue) for queue, of_queue in queues.items()},
        "operations": {f"send_{queue}": _operation(queue, of_queue) for queue, of_queue in queues.items()},
        "components": {
            "messages": {message.key: _message(message, envelope, schemas) for message in messages},
            "schemas": schemas.components,
        },
        DECLARED: [schemas.declaration(entry) for entry in entries],
    }


def entries_of_document(document: Mapping[str, Any]) -> list[CatalogEntry]:
    """Read the declarations of a document that :func:`asyncapi_document` made.

    Raises:
        ConfigurationError: if it was made by something else.
    """
    declared = document.get(DECLARED)
    if not isinstance(declared, list):
        raise ConfigurationError(f"the AsyncAPI document has no {DECLARED!r}: only those of this program can be compared")
    return [_declared_entry(element, document) for element in declared]


def _declared_entry(element: Any, document: Mapping[str, Any]) -> CatalogEntry:
    if not isinstance(element, Mapping) or not isinstance(element.get("schema"), Mapping):
        return CatalogEntry.from_json(element)
    place = str(element["schema"].get("$ref"))
    try:
        found = resolve(document, place)
    except LookupError:
        found = None
    if not isinstance(found, Mapping):
        raise ConfigurationError(f"the AsyncAPI document has no {place!r}, to which event {element.get('event')!r} refers")
    # References that start from the document start from the schema again.
    schema = json.loads(json.dumps(found).replace(json.dumps(place)[:-1], '"#'))
    dialect = element.get("schema_dialect")
    return CatalogEntry.from_json({**element, "schema": {"$schema": dialect, **schema} if dialect else schema})


def _channel(queue: str, messages: Sequence[EventMessage]) -> dict[str, Any]:
    return {
        "address": queue,
        "description": f"The PGMQ queue {queue}: the table pgmq.q_{queue}, read with pgmq.read.",
        "messages": {message.key: {"$ref": f"#/components/messages/{message.key}"} for message in messages},
    }


def _operation(queue: str, messages: Sequence[EventMessage]) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{queue}"},
        "messages": [{"$ref": f"#/channels/{queue}/messages/{message.key}"} for message in messages],
    }


def _message(message: EventMessage, envelope: Envelope, schemas: _Schemas) -> dict[str, Any]:
    payload, dialect = schemas.payload(message)
    schema = envelope.json_schema(message.event, message.version, message.namespace, payload)
    described: dict[str, Any] = {
        "name": message.event,
        "title": f"{message.event} {message.version}",
        "summary": "; ".join(dict.fromkeys(_when(entry) for entry in message.entries if entry.is_durable)),
        "contentType": envelope.content_type,
        "headers": _HEADERS,
        "payload": {"schemaFormat": _format(dialect), "schema": schema} if dialect else schema,
        "correlationId": {"location": f"$message.payload#{envelope.correlation_id}"},
        "x-event-version": message.version,
    }
    if message.description:
        described["description"] = message.description
    examples = message.examples(envelope)
    if examples:
        described["examples"] = [{"payload": body, "headers": headers} for body, headers in examples]
    return described


def _when(entry: CatalogEntry) -> str:
    if entry.condition is None:
        return "published by hand"
    return f"published by {entry.step} on {entry.condition}"


def _format(dialect: str) -> str:
    return f"application/schema+json;version={dialect}"


class _Schemas:
    """The payloads' schemas, each at one place of the document."""

    def __init__(self, entries: Sequence[CatalogEntry]) -> None:
        self.components: dict[str, Any] = {}
        self._places: dict[str, str] = {}
        for entry in entries:
            if entry.schema is not None:
                self._add(entry, entry.schema)

    def payload(self, message: EventMessage) -> tuple[dict[str, Any], str | None]:
        """Return a message's payload as a JSON Schema, and its dialect if it is not draft-07."""
        schemas = message.schemas
        dialects = {_dialect(schema) for schema in schemas}
        if len(dialects) > 1 or "draft-03" in dialects:
            # No one schema can say it: the declarations at the end of the document have them.
            return {"description": f"See {DECLARED}: its schemas are of a draft, or of several, that can't stand here."}, None
        references = [{"$ref": self._place(schema)} for schema in schemas]
        payload = references[0] if len(references) == 1 else {"anyOf": references} if references else {}
        return payload, next(iter(dialects), None)

    def declaration(self, entry: CatalogEntry) -> dict[str, Any]:
        """Return a declaration with its schema by reference."""
        described = entry.as_json()
        if entry.schema is not None:
            described["schema"] = {"$ref": self._place(entry.schema)}
            described["schema_dialect"] = entry.schema.get("$schema")
        return described

    def _add(self, entry: CatalogEntry, schema: Mapping[str, Any]) -> None:
        text = _text(schema)
        if text in self._places:
            return
        base = name = component_name(f"{entry.event}-{entry.version}")
        number = 1
        while name in self.components:
            number += 1
            name = f"{base}.{number}"
        dialect = _dialect(schema)
        place = f"{_SCHEMAS}{name}/schema" if dialect else f"{_SCHEMAS}{name}"
        self._places[text] = place
        whole = moved(schema, place)
        self.components[name] = {"schemaFormat": _format(dialect), "schema": whole} if dialect else whole

    def _place(self, schema: Mapping[str, Any]) -> str:
        return self._places[_text(schema)]


def _text(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, sort_keys=True)


def _dialect(schema: Mapping[str, Any]) -> str | None:
    """Return what AsyncAPI is told of the schema's dialect; None where the schema is one of AsyncAPI's own Schema Objects."""
    uri = str(schema.get("$schema", "")).removesuffix("#")
    if uri == _DRAFT_3:
        return "draft-03"
    return _DIALECTS.get(uri, "draft-07" if _says_otherwise(schema) else None)


def _says_otherwise(value: Any) -> bool:
    """Whether a draft-07 schema has a key that means something else in AsyncAPI's Schema Object."""
    if isinstance(value, Mapping):
        return not _ASYNCAPIS_OWN.isdisjoint(value) or any(map(_says_otherwise, value.values()))
    return isinstance(value, list) and any(map(_says_otherwise, value))
