"""What a dead letter holds: why an event was not published, and as much of it as can be kept.

``kept`` says how much that is, and so how the event can be published after all:

- ``"message"``: the whole message, in ``message_text`` and ``headers_text``. It can be sent again as it is.
- ``"outcome"``: what the step did, in ``outcome_text``. The app can publish the event from it again, with mended code.
- ``"text"``: text to read. Nothing can be published from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from celery_tasker_events import values
from celery_tasker_events.declaration import EventDeclaration
from celery_tasker_events.telemetry.log import error_fields

__all__ = ["Kept", "early_letter", "letter_body", "refused_letter", "storable"]

Kept = Literal["message", "outcome", "text"]


def refused_letter(fields: Mapping[str, Any], error: BaseException, body: bytes, headers: bytes) -> dict[str, Any]:
    """Return what is kept of a message that Postgres refused.

    It is kept as text: what jsonb refuses, such as ``\\u0000``, is kept too, escaped once more.
    """
    return {
        **fields,
        "failed_stage": "postgres",
        "error": error_fields(error),
        "kept": "message",
        "message_text": body.decode(),
        "headers_text": headers.decode(),
        "size_bytes": len(body),
    }


def early_letter(
    fields: Mapping[str, Any],
    declaration: EventDeclaration,
    stage: str,
    error: BaseException,
    payload_text: str | None,
    outcome_text: str | None,
    max_bytes: int | None,
) -> dict[str, Any]:
    """Return what is kept of an event that never became a message.

    Args:
        stage: Which step on its way failed, such as ``"schema"``.
        payload_text: As much of the payload as there is.
        outcome_text: What the app needs to publish the event again, if that can be had.
        max_bytes: Of a longer payload the beginning is kept, of a longer outcome nothing. None: no limit.
    """
    if outcome_text is not None and max_bytes is not None and len(outcome_text.encode()) > max_bytes:
        outcome_text = None
    payload, size = _beginning(payload_text, max_bytes)
    return {
        **fields,
        "failed_stage": stage,
        "error": error_fields(error),
        "declaration": {
            "name": declaration.name,
            "condition": declaration.condition,
            "delivery_mode": declaration.delivery_mode,
            "publisher": declaration.publisher,
            "version": declaration.version,
        },
        "kept": "text" if outcome_text is None else "outcome",
        "payload_text": payload,
        "size_bytes": size,
        "outcome_text": outcome_text,
    }


def letter_body(letter: Mapping[str, Any]) -> bytes:
    """Return a dead letter as JSON that jsonb takes: it must never be refused itself."""
    return values.encode(storable(letter))


def _beginning(text: str | None, max_bytes: int | None) -> tuple[str | None, int]:
    encoded = (text or "").encode()
    if text is None or max_bytes is None or len(encoded) <= max_bytes:
        return text, len(encoded)
    return encoded[:max_bytes].decode(errors="ignore"), len(encoded)


def storable(value: Any) -> Any:
    """Return the value with what jsonb, or UTF-8, has no form for escaped in every text of it."""
    if isinstance(value, str):
        return value.replace("\0", "\\u0000").encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {key: storable(item) for key, item in value.items()}
    return value
