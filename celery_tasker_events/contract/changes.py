"""Change: one difference between two contracts, and whom it breaks."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

__all__ = ["Affected", "Change", "Rule", "SchemaChange"]


class Affected(str, enum.Enum):
    """Whom a change breaks.

    ``CONSUMERS``: who reads the events, from the queue or in the same process: what comes may be something that they
    were told would not come, or does not come any more. ``PUBLISHERS``: the tasks: a payload that was published until now
    may be refused, and becomes a dead letter.
    """

    CONSUMERS = "consumers"
    PUBLISHERS = "publishers"


_CONSUMERS = frozenset({Affected.CONSUMERS})
_PUBLISHERS = frozenset({Affected.PUBLISHERS})
_BOTH = _CONSUMERS | _PUBLISHERS
_NOBODY: frozenset[Affected] = frozenset()


class Rule(enum.Enum):
    """What kind of change it is, whom it breaks, and what it means for them. The reference page has the same table."""

    EVENT_ADDED = ("event-added", _NOBODY, "consumers that do not know it never see it")
    EVENT_REMOVED = ("event-removed", _CONSUMERS, "consumers wait for it in vain")
    PUBLISHED_ELSEWHERE_TOO = ("declaration-added", _NOBODY, "one more step publishes it on a condition that it had already")
    NO_LONGER_PUBLISHED = ("declaration-removed", _CONSUMERS, "consumers wait for it in vain where this step ends")
    STEP_CHANGED = ("step-changed", _NOBODY, "only the name of the step in its metadata is another")
    CONDITION_CHANGED = ("condition-changed", _CONSUMERS, "it comes on other outcomes than consumers expect")
    CONDITION_ADDED = ("condition-added", _CONSUMERS, "it comes on outcomes on which it did not come before")
    MODE_CHANGED = ("mode-changed", _CONSUMERS, "who listens on the path that it leaves hears nothing")
    MODE_EXTENDED = ("mode-extended", _PUBLISHERS, "it needs its queue now, and publish(…, connection=…) refuses it")
    NAMESPACE_CHANGED = ("namespace-changed", _CONSUMERS, "it goes to another queue")
    PUBLISHER_CHANGED = ("publisher-changed", _NOBODY, "the schema still says what its payload is")
    VERSION_RAISED = ("version-raised", _NOBODY, "consumers can tell the versions apart by event_version")
    VERSION_LOWERED = ("version-lowered", _CONSUMERS, "consumers take it for the older version that they knew")
    SCHEMA_ADDED = ("schema-added", _PUBLISHERS, "a payload that does not match is refused now")
    SCHEMA_REMOVED = ("schema-removed", _CONSUMERS, "the payload may be anything now")

    FIELD_ADDED = ("field-added", _NOBODY, "consumers that do not know the field ignore it")
    FIELD_ADDED_TO_CLOSED = ("field-added-to-closed", _CONSUMERS, "consumers were told that no other field comes")
    FIELD_REMOVED = ("field-removed", _CONSUMERS, "consumers may read it")
    FIELD_REMOVED_FROM_CLOSED = (
        "field-removed-from-closed",
        _BOTH,
        "consumers may read it, and a payload that has it is refused now",
    )
    REQUIRED_ADDED = ("required-added", _PUBLISHERS, "a payload without the field is refused now")
    REQUIRED_REMOVED = ("required-removed", _CONSUMERS, "consumers rely on it to be there")
    TYPE_NARROWED = ("type-narrowed", _PUBLISHERS, "a payload with a value of a former type is refused now")
    TYPE_WIDENED = ("type-widened", _CONSUMERS, "a value of a type that consumers do not expect may come")
    TYPE_CHANGED = ("type-changed", _BOTH, "values of the former type are refused, and others come")
    VALUES_NARROWED = ("values-narrowed", _PUBLISHERS, "a payload with one of the former values is refused now")
    VALUES_WIDENED = ("values-widened", _CONSUMERS, "a value that consumers do not know may come")
    VALUES_CHANGED = ("values-changed", _BOTH, "former values are refused, and others come")
    LIMIT_NARROWED = ("limit-narrowed", _PUBLISHERS, "a value beyond the limit is refused now")
    LIMIT_WIDENED = ("limit-widened", _CONSUMERS, "a value beyond the former limit may come")
    LIMIT_CHANGED = ("limit-changed", _BOTH, "former values may be refused, and others come")
    CLOSED = ("closed", _PUBLISHERS, "a payload with a field that is not declared is refused now")
    OPENED = ("opened", _CONSUMERS, "consumers were told that no other field comes")
    FORMAT_ADDED = ("format-added", _NOBODY, "a format is a remark: it refuses nothing")
    FORMAT_CHANGED = ("format-changed", _CONSUMERS, "consumers may parse it by the former format")
    UNCLEAR = ("schema-changed", _BOTH, "what this means for a payload can't be told: it is taken for the worst")

    def __init__(self, label: str, affects: frozenset[Affected], reason: str) -> None:
        self.label = label
        self.affects = affects
        self.reason = reason


@dataclass(frozen=True)
class SchemaChange:
    """One difference between two JSON Schemas.

    Attributes:
        place: Which field, such as ``items[].price``; empty: the payload as a whole.
    """

    rule: Rule
    place: str
    old: Any = None
    new: Any = None


@dataclass(frozen=True)
class Change:
    """One difference between two contracts.

    Attributes:
        place: Which field of its payload; empty: the event.
        is_accepted: Whether it is announced, by a raised version or by name: then it does not count.
    """

    rule: Rule
    event: str
    namespace: str
    old_version: str | None
    new_version: str | None
    place: str = ""
    old: Any = None
    new: Any = None
    is_accepted: bool = False

    @property
    def affects(self) -> frozenset[Affected]:
        """Whom it breaks; nobody: it is safe."""
        return self.rule.affects

    @property
    def is_breaking(self) -> bool:
        return bool(self.affects)

    def as_json(self) -> dict[str, Any]:
        return {
            "event": self.event,
            "namespace": self.namespace,
            "old_version": self.old_version,
            "new_version": self.new_version,
            "change": self.rule.label,
            "place": self.place or None,
            "old": self.old,
            "new": self.new,
            "breaking": self.is_breaking,
            "accepted": self.is_accepted,
            "affects": sorted(affected.value for affected in self.affects),
            "reason": self.rule.reason,
        }
