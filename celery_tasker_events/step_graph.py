"""Steps and what each depends on, as what comes after what and what runs side by side: where that says all of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

__all__ = ["Dependencies", "NoCanvas", "Parallel", "Plan", "Series", "arrange"]

#: The names of the steps that each step depends on, in the order in which it gets their results.
Dependencies = Mapping[str, Sequence[str]]


class NoCanvas(ValueError):
    """The steps depend on each other in a way that is no canvas; the message names some of them."""


@dataclass(frozen=True)
class Series:
    """Each part begins when the one before it has ended."""

    parts: tuple[Plan, ...]


@dataclass(frozen=True)
class Parallel:
    """All parts run side by side. What follows gets their results in this order."""

    parts: tuple[Plan, ...]


#: A string is a step's name.
Plan = str | Series | Parallel


def arrange(dependencies: Dependencies) -> Plan:
    """Arrange the steps so that each begins when those that it depends on have ended, and gets the results of just these.

    Raises:
        NoCanvas: if the steps go round in a circle, or share their dependencies in a way that no series and parallels have.
    """
    try:
        order = list(TopologicalSorter(dependencies).static_order())
    except CycleError as error:
        raise NoCanvas(f"the steps depend on each other in a circle: {' -> '.join(reversed(error.args[1]))}") from None
    return _Arranger(dependencies, order).plan(list(dependencies))


class _Arranger:
    def __init__(self, dependencies: Dependencies, order: Iterable[str]) -> None:
        self._parents = dependencies
        self._ancestors: dict[str, set[str]] = {}
        for name in order:
            parents = dependencies[name]
            self._ancestors[name] = set(parents).union(*(self._ancestors[parent] for parent in parents))

    def plan(self, names: Sequence[str]) -> Plan:
        """Arrange some of the steps, as they stand to each other."""
        if len(names) == 1:
            return names[0]
        components = self._components(names)
        if len(components) > 1:
            return Parallel(tuple(self.plan(component) for component in components))
        segments = self._segments(names)
        if len(segments) == 1:
            raise NoCanvas(self._why_no_series(names))
        parts: list[Plan] = []
        earlier: set[str] = set()
        for segment, following in zip(segments, [*segments[1:], ()], strict=True):
            earlier.update(segment)
            wanted = self._wanted(earlier, following)
            part = self.plan(segment)
            parts.append(_in_order(part, wanted) if following else part)
        return Series(tuple(parts))

    def _components(self, names: Sequence[str]) -> list[list[str]]:
        """The steps in groups that have nothing to do with each other."""
        component_of = {name: [name] for name in names}
        for name in names:
            for parent in self._parents[name]:
                own, other = component_of[name], component_of.get(parent, component_of[name])
                if own is not other:
                    own += other
                    component_of.update(dict.fromkeys(other, own))
        members = {id(component): set(component) for component in component_of.values()}
        return [[name for name in names if name in component] for component in members.values()]

    def _segments(self, names: Sequence[str]) -> list[list[str]]:
        """The steps in as many groups as there can be, of which each comes as a whole after the one before it."""
        inside = set(names)
        ordered = sorted(names, key=lambda name: len(self._ancestors[name] & inside))
        segments: list[list[str]] = [[]]
        for index, name in enumerate(ordered):
            if index and all(self._ancestors[later].issuperset(ordered[:index]) for later in ordered[index:]):
                segments.append([])
            segments[-1].append(name)
        return [sorted(segment, key=names.index) for segment in segments]

    def _wanted(self, earlier: set[str], following: Sequence[str]) -> Sequence[str]:
        """Those that the following steps depend on at once, in the order in which they do."""
        wanted: Sequence[str] = ()
        first = ""
        for name in following:
            direct = [parent for parent in self._parents[name] if parent in earlier]
            if not direct:
                continue
            for before in direct:
                for between in self._parents[name]:
                    if before in self._ancestors[between]:
                        raise NoCanvas(
                            f"step {name!r} depends on {between!r} and on {before!r}, which comes before {between!r}, and a"
                            f" canvas hands results on to the next step only: leave {before!r} out of what {name!r} depends on"
                        )
            if wanted and list(wanted) != direct:
                raise NoCanvas(f"steps {first!r} and {name!r} depend on the same steps: write these in the same order in both")
            wanted, first = direct, first or name
        return wanted

    def _why_no_series(self, names: Sequence[str]) -> str:
        for one in names:
            for other in names:
                shared = self._ancestors[one] & self._ancestors[other]
                for before in sorted(self._ancestors[other] - shared - {one}):
                    for both in sorted(shared):
                        if both not in self._ancestors[before] and one not in self._ancestors[other]:
                            return (
                                f"steps {one!r} and {other!r} both come after {both!r}, and only {other!r} after {before!r}:"
                                " no chain, group and chord says that"
                            )
        raise AssertionError(names)


def _last_of(plan: Plan) -> list[str]:
    """The steps with which it ends, in the order of its results."""
    if isinstance(plan, str):
        return [plan]
    parts = plan.parts[-1:] if isinstance(plan, Series) else plan.parts
    return [name for part in parts for name in _last_of(part)]


def _in_order(plan: Plan, wanted: Sequence[str]) -> Plan:
    """The plan with its parts in the order in which what follows wants their results."""
    if not isinstance(plan, Parallel):
        return plan
    by_last = {}
    for part in plan.parts:
        last = _last_of(part)
        if len(last) > 1:
            names = ", ".join(map(repr, last))
            raise NoCanvas(f"steps {names} run side by side inside of what runs side by side: nothing can wait for all at once")
        by_last[last[0]] = part
    return Parallel(tuple(by_last[name] for name in wanted))
