"""Wanted: which events a page or a stream shows, as its query says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from celery_tasker_events.bus.pattern import Pattern
from celery_tasker_events.consumer.entry import Entry
from celery_tasker_events.consumer.scanning import Filter
from celery_tasker_events.event import queue_name

__all__ = ["OUTCOMES", "Wanted"]

#: What can be asked for, and what it is called.
OUTCOMES = {"completed": "Success", "failed": "Failure", "retrying": "Failure, tried again", "published": "By hand"}


@dataclass(frozen=True)
class Wanted:
    """A filter as a person gives it.

    Attributes:
        given: The texts, to be shown again.
        problems: What is wrong with a text, by the field's name; then nothing matches.
    """

    given: Mapping[str, str]
    namespace: str | None = None
    event: Pattern | None = None
    outcome: str | None = None
    correlation_id: str | None = None
    problems: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Wanted:
        """Read a query; an empty text is none."""
        names = ("namespace", "event", "outcome", "correlation_id")
        # A NUL is nowhere in Postgres, and it refuses to look for one.
        given = {name: query.get(name, "").replace("\0", "").strip() for name in names}
        problems, event = {}, None
        try:
            event = Pattern(given["event"]) if given["event"] else None
        except ValueError as error:
            problems["event"] = str(error)
        if given["outcome"] and given["outcome"] not in OUTCOMES:
            problems["outcome"] = f"there is no outcome {given['outcome']!r}"
        return cls(given, given["namespace"] or None, event, given["outcome"] or None, given["correlation_id"] or None, problems)

    @property
    def filter(self) -> Filter:
        """The same for the server; the namespace is a choice of queues."""
        return Filter(self.event, self.outcome, self.correlation_id)

    @property
    def query(self) -> str:
        """The same as the query of a URL."""
        return urlencode({name: text for name, text in self.given.items() if text})

    def matches(self, entry: Entry) -> bool:
        """Whether an entry is one of these, as the server would have it."""
        outline = entry.outline
        return (
            not self.problems
            and (self.namespace is None or entry.queue == queue_name(self.namespace))
            and (self.event is None or (outline.event_name is not None and self.event.matches(outline.event_name)))
            and self.outcome in (None, outline.outcome)
            and self.correlation_id in (None, outline.correlation_id)
        )
