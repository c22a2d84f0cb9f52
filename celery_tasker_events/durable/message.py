"""DurableMessage: one message for a PGMQ queue, already serialised, with what the log says about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from celery_tasker_events import values
from celery_tasker_events.declaration import EventDeclaration
from celery_tasker_events.durable.confirmation import Confirmation
from celery_tasker_events.durable.letter import early_letter, letter_body, refused_letter, storable
from celery_tasker_events.durable.spool.spool import SpoolRow, StoredRow
from celery_tasker_events.errors import EventTooLarge, NotSerialisable
from celery_tasker_events.event import queue_name
from celery_tasker_events.telemetry.trail import NO_TRAIL, Trail

__all__ = ["DurableMessage", "dead_letter_queue"]

#: The escape of U+0000, which Postgres' jsonb does not take; an escaped backslash before "u0000" is none.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def dead_letter_queue(queue: str) -> str:
    """Return the name of the queue that keeps what could not be published to that queue."""
    return f"{queue}_dlq"


class DurableMessage(NamedTuple):
    """A serialised message, its PGMQ headers, and the log fields of its event."""

    queue: str
    body: bytes
    headers: bytes
    fields: Mapping[str, Any]
    is_dead_letter: bool = False
    confirmation: Confirmation | None = None
    trail: Trail = NO_TRAIL

    def check_size(self, max_bytes: int | None) -> None:
        """Raise EventTooLarge where the message, headers not counted, is larger than that; None: it may be as large as it is."""
        if max_bytes is not None and len(self.body) > max_bytes:
            raise EventTooLarge(len(self.body), max_bytes)

    def check_storable(self) -> None:
        """Raise NotSerialisable where Postgres would refuse the message for a character in it."""
        if _holds_nul(self.body) or _holds_nul(self.headers):
            raise NotSerialisable("a text of the event holds U+0000, which Postgres can't store in jsonb")

    def to_row(self) -> SpoolRow:
        """Return the message as it waits on disk; what lets somebody wait for it stays in memory."""
        content = {
            "queue": self.queue,
            "body": self.body.decode(),
            "headers": self.headers.decode(),
            "fields": self.fields,
            "is_dead_letter": self.is_dead_letter,
        }
        return SpoolRow(self.fields["event_name"], self.fields["namespace"], values.encode(storable(content)))

    @classmethod
    def from_row(cls, row: StoredRow) -> DurableMessage:
        """Return the message of a row that :meth:`to_row` made."""
        content = values.decode(row.content)
        body, headers = content["body"].encode(), content["headers"].encode()
        return cls(content["queue"], body, headers, content["fields"], content["is_dead_letter"])

    def refused(self, error: BaseException) -> DurableMessage:
        """Return the dead letter of a message that Postgres refused."""
        letter = refused_letter(self.fields, error, self.body, self.headers)
        return self._letter(self.queue, letter, self.fields)._replace(confirmation=self.confirmation)

    @classmethod
    def dead_letter(
        cls,
        declaration: EventDeclaration,
        namespace: str,
        stage: str,
        error: BaseException,
        payload_text: str | None,
        fields: Mapping[str, Any],
        *,
        outcome_text: str | None = None,
        max_bytes: int | None = None,
    ) -> DurableMessage:
        """Return the dead letter of an event that could not be built; see :func:`.letter.early_letter`.

        Args:
            fields: What is known of the event, as log fields.
        """
        letter = early_letter(fields, declaration, stage, error, payload_text, outcome_text, max_bytes)
        return cls._letter(queue_name(namespace), letter, fields)

    @classmethod
    def _letter(cls, queue: str, letter: Mapping[str, Any], fields: Mapping[str, Any]) -> DurableMessage:
        return cls(dead_letter_queue(queue), letter_body(letter), b"{}", fields, is_dead_letter=True)


def _holds_nul(text: bytes) -> bool:
    # The plain search is many times as fast, and nearly always all that is needed.
    return b"\\u0000" in text and _NUL.search(text) is not None
