"""Who wants which event: the walk over all patterns is done once per event name, and again when somebody comes or goes."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

__all__ = ["MatchCache"]


class Wanting(Protocol):
    def matches(self, event_name: str) -> bool: ...


W = TypeVar("W", bound=Wanting)

#: Names that are remembered. Events that are published by hand may have any number of names.
_LIMIT = 1000


class _Known(Generic[W]):
    def __init__(self, groups: tuple[tuple[W, ...], ...]) -> None:
        self.groups = groups
        self.by_name: dict[str, tuple[W, ...]] = {}


class MatchCache(Generic[W]):
    """Remembers the answers for as long as it is asked about the same tuples; without a lock, for any thread."""

    def __init__(self) -> None:
        self._known: _Known[W] = _Known(())

    def find(self, event_name: str, *groups: tuple[W, ...]) -> tuple[W, ...]:
        """Those of the groups that match, in order. Whoever changes a group makes another tuple of it."""
        known = self._known
        if known.groups != groups:
            known = self._known = _Known(groups)
        found = known.by_name.get(event_name)
        if found is None:
            found = tuple(wanting for group in groups for wanting in group if wanting.matches(event_name))
            if len(known.by_name) >= _LIMIT:
                known.by_name.clear()
            known.by_name[event_name] = found
        return found
