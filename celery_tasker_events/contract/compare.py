"""What changed between two sets of declared events, and whom it breaks."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from celery_tasker_events.contract.changes import Affected, Change, Rule, SchemaChange
from celery_tasker_events.contract.compare_schemas import compare_schemas
from celery_tasker_events.contract.entry import CatalogEntry
from celery_tasker_events.declaration import DeliveryMode

__all__ = ["compare", "is_raised"]


def compare(old: Iterable[CatalogEntry], new: Iterable[CatalogEntry], accepted: Collection[str] = ()) -> list[Change]:
    """Return what changed, in the order of the events' names.

    A breaking change is accepted where the major part of the event's version, or of the version of the template that
    declares it, is raised.

    Args:
        accepted: Names of events whose breaking changes are accepted whatever their version.
    """
    old_events, new_events = _by_event(old), _by_event(new)
    changes: list[Change] = []
    for event in sorted(old_events.keys() | new_events.keys()):
        changes.extend(_event_changes(old_events.get(event, ()), new_events.get(event, ()), new_events))
    return [dataclasses.replace(change, is_accepted=True) if change.event in accepted else change for change in changes]


def is_raised(old: str | None, new: str | None) -> bool:
    """Whether the major part of a version, the number before its first dot, is greater than that of the other."""
    before, after = _numbers(old), _numbers(new)
    return before is not None and after is not None and after[0] > before[0]


def _event_changes(
    old: Sequence[CatalogEntry], new: Sequence[CatalogEntry], all_new: Mapping[str, Sequence[CatalogEntry]]
) -> Iterator[Change]:
    if not new:
        first = old[0]
        yield _change(Rule.EVENT_REMOVED, first, None, is_accepted=_template_raised(first, all_new))
        return
    if not old:
        yield _change(Rule.EVENT_ADDED, None, new[0])
        return
    pairs, gone, come = _paired(old, new)
    # One contract for all steps that publish it: what changed alike in several of them is told once.
    found = [change for before, after in pairs for change in _pair_changes(before, after)]
    found += [_change(Rule.NO_LONGER_PUBLISHED, entry, new[0], old=_who(entry)) for entry in gone]
    found += [change for entry in come for change in _newly_published(old, entry)]
    yield from _unique(found)


def _paired(
    old: Sequence[CatalogEntry], new: Sequence[CatalogEntry]
) -> tuple[list[tuple[CatalogEntry, CatalogEntry]], list[CatalogEntry], list[CatalogEntry]]:
    """Return which declaration became which, and what is left on either side: the more they have in common, the sooner."""
    gone, come = list(old), list(new)
    pairs = []
    for key in _LIKENESS:
        for entry in list(gone):
            match = next((other for other in come if key(other) == key(entry)), None)
            if match is not None:
                pairs.append((entry, match))
                gone.remove(entry)
                come.remove(match)
    return pairs, gone, come


def _origin(entry: CatalogEntry) -> Hashable:
    # A catalog of templates alone knows no tasks.
    return (entry.template, entry.step) if entry.template is not None else (None, entry.task)


_LIKENESS: Sequence[Callable[[CatalogEntry], Hashable]] = (
    lambda entry: (entry.namespace, _origin(entry), entry.condition, entry.version),
    lambda entry: (entry.namespace, _origin(entry), entry.condition),
    lambda entry: (entry.namespace, _origin(entry)),
    lambda entry: (entry.namespace, entry.condition),
    lambda entry: (_origin(entry), entry.condition),
    lambda entry: entry.namespace,
    lambda entry: entry.condition,
    lambda entry: None,
)


def _pair_changes(old: CatalogEntry, new: CatalogEntry) -> Iterator[Change]:
    if _origin(old) != _origin(new):
        yield _change(Rule.STEP_CHANGED, old, new, old=_who(old), new=_who(new))
    if old.condition != new.condition:
        yield _change(Rule.CONDITION_CHANGED, old, new, old=old.when, new=new.when)
    if old.delivery_mode != new.delivery_mode:
        extended = new.delivery_mode == DeliveryMode.BROADCAST
        rule = Rule.MODE_EXTENDED if extended else Rule.MODE_CHANGED
        yield _change(rule, old, new, old=old.delivery_mode, new=new.delivery_mode)
    if old.namespace != new.namespace:
        yield _change(Rule.NAMESPACE_CHANGED, old, new, old=old.namespace, new=new.namespace)
    if old.publisher != new.publisher:
        yield _change(Rule.PUBLISHER_CHANGED, old, new, old=old.publisher, new=new.publisher)
    if old.version != new.version:
        before, after = _numbers(old.version), _numbers(new.version)
        is_lower = before is not None and after is not None and after < before
        yield _change(Rule.VERSION_LOWERED if is_lower else Rule.VERSION_RAISED, old, new, old=old.version, new=new.version)
    for change in _schema_changes(old, new):
        yield _change(change.rule, old, new, place=change.place, old=change.old, new=change.new)


def _newly_published(old: Sequence[CatalogEntry], new: CatalogEntry) -> Iterator[Change]:
    """An event that there was is published by one more step, or on one more condition."""
    known = {entry.condition for entry in old}
    if new.condition in known:
        yield _change(Rule.PUBLISHED_ELSEWHERE_TOO, old[0], new, new=_who(new))
    else:
        yield _change(Rule.CONDITION_ADDED, old[0], new, new=_who(new))
    # Its payload is new to the tasks, not to the consumers.
    differences = [_schema_changes(entry, new) for entry in old]
    for change in min(differences, key=len):
        if Affected.CONSUMERS in change.rule.affects:
            yield _change(change.rule, old[0], new, place=change.place, old=change.old, new=change.new)


def _schema_changes(old: CatalogEntry, new: CatalogEntry) -> list[SchemaChange]:
    if old.schema is None or new.schema is None:
        rules = {(False, True): Rule.SCHEMA_ADDED, (True, False): Rule.SCHEMA_REMOVED}
        rule = rules.get((old.schema is not None, new.schema is not None))
        return [SchemaChange(rule, "")] if rule else []
    return compare_schemas(old.schema, new.schema)


def _change(
    rule: Rule,
    before: CatalogEntry | None,
    after: CatalogEntry | None,
    *,
    place: str = "",
    old: Any = None,
    new: Any = None,
    is_accepted: bool = False,
) -> Change:
    entry = after or before
    assert entry is not None
    if before is not None and after is not None and rule.affects:
        same_template = before.template is not None and before.template == after.template
        is_accepted = is_raised(before.version, after.version) or (
            same_template and is_raised(before.template_version, after.template_version)
        )
    return Change(
        rule=rule,
        event=entry.event,
        namespace=entry.namespace,
        old_version=before.version if before else None,
        new_version=after.version if after else None,
        place=place,
        old=old,
        new=new,
        is_accepted=is_accepted,
    )


def _template_raised(gone: CatalogEntry, all_new: Mapping[str, Sequence[CatalogEntry]]) -> bool:
    """Whether the template that declared an event is there in a newer version, which can be told if it declares another."""
    versions = {entry.template_version for entries in all_new.values() for entry in entries if entry.template == gone.template}
    return gone.template is not None and any(is_raised(gone.template_version, version) for version in versions)


def _unique(changes: Iterable[Change]) -> list[Change]:
    seen = set()
    unique = []
    for change in changes:
        if (key := repr(change)) not in seen:
            seen.add(key)
            unique.append(change)
    return unique


def _by_event(entries: Iterable[CatalogEntry]) -> dict[str, list[CatalogEntry]]:
    grouped: dict[str, list[CatalogEntry]] = {}
    for entry in sorted(entries, key=CatalogEntry.order):
        grouped.setdefault(entry.event, []).append(entry)
    return grouped


def _who(entry: CatalogEntry) -> str:
    if entry.condition is None:
        return entry.when
    return f"{entry.template + ' ' if entry.template else ''}{entry.step} on {entry.condition}"


def _numbers(version: str | None) -> tuple[int, ...] | None:
    """The numbers of a version such as ``2.1`` or ``v2``; None for what is no such version."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", version or "")
    return tuple(map(int, match[1].split("."))) if match else None
