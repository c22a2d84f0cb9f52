"""Dependencies as series and parallels: each step comes after those that it depends on, and gets the results of just these."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from celery_tasker_events.step_graph import NoCanvas, Parallel, Plan, Series, arrange


def received(plan: Plan, incoming: Any = None) -> tuple[dict[str, Any], Any]:
    """What each step of a plan gets, and what comes out of it: a step's result is its name."""
    if isinstance(plan, str):
        return {plan: incoming}, plan
    got: dict[str, Any] = {}
    outgoing: list[Any] = []
    for part in plan.parts:
        of_part, result = received(part, incoming)
        got |= of_part
        if isinstance(plan, Series):
            incoming = result
        outgoing.append(result)
    return got, incoming if isinstance(plan, Series) else outgoing


def wanted(dependencies: dict[str, list[str]]) -> dict[str, Any]:
    return {name: {0: None, 1: parents and parents[0]}.get(len(parents), parents) for name, parents in dependencies.items()}


@st.composite
def acyclic(draw: st.DrawFn) -> dict[str, list[str]]:
    """Any steps that depend on some of those before them, told in any order."""
    names = [f"s{number}" for number in range(draw(st.integers(1, 7)))]
    dependencies = {
        name: draw(st.lists(st.sampled_from(names[:index]), unique=True, max_size=3)) if index else []
        for index, name in enumerate(names)
    }
    return {name: dependencies[name] for name in draw(st.permutations(names))}


def first_of(plan: Plan) -> list[str]:
    if isinstance(plan, str):
        return [plan]
    return [name for part in (plan.parts[:1] if isinstance(plan, Series) else plan.parts) for name in first_of(part)]


def last_of(plan: Plan) -> list[str]:
    if isinstance(plan, str):
        return [plan]
    return [name for part in (plan.parts[-1:] if isinstance(plan, Series) else plan.parts) for name in last_of(part)]


def dependencies_of(plan: Plan, before: list[str]) -> dict[str, list[str]]:
    if isinstance(plan, str):
        return {plan: before}
    found: dict[str, list[str]] = {}
    for part in plan.parts:
        found |= dependencies_of(part, before)
        if isinstance(plan, Series):
            before = last_of(part)
    return found


@st.composite
def series_parallel(draw: st.DrawFn) -> dict[str, list[str]]:
    """What is made of series and parallels, and is therefore a canvas."""
    numbers = itertools.count()

    def make(depth: int) -> Plan:
        kind = draw(st.sampled_from(["step", "series", "parallel"])) if depth else "step"
        if kind == "step":
            return f"s{next(numbers)}"
        parts = tuple(make(depth - 1) for _ in range(draw(st.integers(2, 3))))
        return Series(parts) if kind == "series" else Parallel(parts)

    dependencies = dependencies_of(make(3), [])
    return {name: dependencies[name] for name in draw(st.permutations(list(dependencies)))}


@given(acyclic())
def test_a_step_gets_the_results_of_just_those_that_it_depends_on(dependencies: dict[str, list[str]]) -> None:
    with contextlib.suppress(NoCanvas):
        assert received(arrange(dependencies))[0] == wanted(dependencies)


@given(series_parallel())
def test_whatever_is_made_of_series_and_parallels_is_arranged(dependencies: dict[str, list[str]]) -> None:
    try:
        plan = arrange(dependencies)
    except NoCanvas as error:
        # Celery has no means for these, though they are no wrong graph.
        assume("inside of what runs side by side" not in str(error))
        raise
    assert received(plan)[0] == wanted(dependencies)


@pytest.mark.parametrize(
    ("dependencies", "expected"),
    [
        ({"a": []}, "a"),
        ({"b": ["a"], "a": []}, Series(("a", "b"))),
        ({"a": [], "b": []}, Parallel(("a", "b"))),
        ({"a": [], "b": ["a"], "c": ["a"], "d": ["c", "b"]}, Series(("a", Parallel(("c", "b")), "d"))),
        (
            {"a": [], "b": [], "c": ["a", "b"], "d": ["a", "b"]},
            Series((Parallel(("a", "b")), Parallel(("c", "d")))),
        ),
        (
            {"a": [], "b": ["a"], "c": [], "d": ["b", "c"]},
            Series((Parallel((Series(("a", "b")), "c")), "d")),
        ),
    ],
    ids=["one", "chain", "group", "diamond in its own order", "all after all", "branches of different lengths"],
)
def test_plans(dependencies: dict[str, list[str]], expected: Plan) -> None:
    assert arrange(dependencies) == expected


@pytest.mark.parametrize(
    ("dependencies", "told"),
    [
        ({"a": ["c"], "b": ["a"], "c": ["b"]}, "depend on each other in a circle"),
        ({"a": ["a"]}, "in a circle: a -> a"),
        ({"a": [], "b": ["a"], "c": ["a", "b"]}, "leave 'a' out of what 'c' depends on"),
        ({"a": [], "b": [], "c": ["a"], "d": ["a", "b"]}, "steps 'c' and 'd' both come after 'a', and only 'd' after 'b'"),
        ({"a": [], "b": [], "c": ["a"], "x": ["a"], "d": ["x", "b"]}, "both come after 'a', and only 'd' after 'b'"),
        ({"a": [], "b": [], "c": ["a", "b"], "d": ["b", "a"]}, "steps 'c' and 'd' depend on the same steps"),
        ({"x": [], "y": ["x"], "z": ["x"], "w": [], "v": ["y", "z", "w"]}, "steps 'y', 'z' run side by side inside"),
    ],
)
def test_what_is_no_canvas_is_refused_by_name(dependencies: dict[str, list[str]], told: str) -> None:
    with pytest.raises(NoCanvas) as caught:
        arrange(dependencies)

    assert told in str(caught.value)
