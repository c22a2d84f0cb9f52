"""An environment's overrides are merged into a template, step by step, and every value keeps its line."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_tasker_events import located
from celery_tasker_events.located import LocatedDict, LocatedList
from celery_tasker_events.overrides import OverrideError, apply, merge

TEXT = """\
name: x
steps:
  - name: pay
    timeout_seconds: 60
    retry:
      limit: 3
      backoff: linear
    dependencies: [a, b]
  - name: ship
    timeout_seconds: 60
task_handler:
  callable: X
environments:
  test:
    task_handler:
      initialization: {fast: true}
    steps:
      - name: ALL
        timeout_seconds: 10
      - name: pay
        timeout_seconds:
        retry:
          limit: 1
        dependencies: [c]
        handler:
          task: fake.pay
  empty:
  nothing:
    steps:
      - name: pay
        timeout_seconds:
        retry:
"""


@pytest.fixture
def template(tmp_path: Path) -> LocatedDict:
    (tmp_path / "x.yaml").write_text(TEXT)
    document: LocatedDict = located.load(tmp_path / "x.yaml")
    return document


def test_steps_are_merged_by_name_mappings_deeply_and_lists_replaced(template: LocatedDict) -> None:
    pay, _ = apply(template, "test")["steps"]

    assert pay == {
        "name": "pay",
        "timeout_seconds": 10,
        "retry": {"limit": 1, "backoff": "linear"},
        "dependencies": ["c"],
        "handler": {"task": "fake.pay"},
    }


def test_an_override_named_all_is_for_every_step(template: LocatedDict) -> None:
    _, ship = apply(template, "test")["steps"]

    assert ship == {"name": "ship", "timeout_seconds": 10}


def test_overrides_count_in_the_order_in_which_they_stand(template: LocatedDict) -> None:
    overrides = template["environments"]["test"]["steps"]
    overrides[1]["timeout_seconds"] = 7
    assert apply(template, "test")["steps"][0]["timeout_seconds"] == 7
    overrides.reverse()

    assert apply(template, "test")["steps"][0]["timeout_seconds"] == 10


def test_the_task_handler_is_merged_too(template: LocatedDict) -> None:
    assert apply(template, "test")["task_handler"] == {"callable": "X", "initialization": {"fast": True}}
    del template["task_handler"]
    assert apply(template, "test")["task_handler"] == {"initialization": {"fast": True}}


def test_every_value_has_the_line_where_it_was_written(template: LocatedDict) -> None:
    result = apply(template, "test")
    pay, ship = result["steps"]

    assert result["steps"].lines == [3, 9]
    assert pay.lines == {"name": 3, "timeout_seconds": 19, "retry": 5, "dependencies": 24, "handler": 25}
    assert pay["retry"].lines == {"limit": 23, "backoff": 7}
    assert (pay["handler"].lines, ship.lines) == ({"task": 26}, {"name": 9, "timeout_seconds": 19})


@pytest.mark.parametrize("environment", ["empty", "nothing", "no such one"])
def test_null_and_what_is_not_there_change_nothing(template: LocatedDict, environment: str) -> None:
    assert apply(template, environment) == template


def test_a_template_is_not_changed_by_what_is_made_of_it(template: LocatedDict) -> None:
    before = copy.deepcopy(template)

    apply(template, "test")

    assert template == before
    assert template["steps"][0].lines == before["steps"][0].lines


def test_an_override_for_a_step_that_is_not_there_changes_nothing(template: LocatedDict) -> None:
    template["environments"]["test"]["steps"] = LocatedList([_located({"name": "pey", "timeout_seconds": 1}, 40)])
    template["environments"]["test"]["steps"].lines = [40]

    assert apply(template, "test")["steps"] == template["steps"]


# Any mappings

values = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=20,
)
mappings = st.dictionaries(st.sampled_from("abcd"), values, max_size=4)


def _located(value: Any, line: int) -> Any:
    """The mapping with every key of it in that line."""
    if not isinstance(value, dict):
        return value
    result = LocatedDict((key, _located(item, line)) for key, item in value.items())
    result.line, result.lines = line, dict.fromkeys(value, line)
    return result


def _paths(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every key's path, and its value where that is no mapping."""
    found: dict[tuple[str, ...], Any] = {}
    for key, item in value.items():
        found[(*path, key)] = None if isinstance(item, dict) else [item]
        if isinstance(item, dict):
            found.update(_paths(item, (*path, key)))
    return found


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return value


@given(mappings)
def test_merging_nothing_or_itself_changes_nothing(base: dict[str, Any]) -> None:
    assert merge(_located(base, 1), _located({}, 2)) == base
    assert merge(_located(base, 1), _located(base, 2)) == base


@given(mappings, mappings)
def test_what_an_override_sets_is_there_and_all_else_is_the_bases(base: dict[str, Any], override: dict[str, Any]) -> None:
    merged = merge(_located(base, 1), _located(override, 2))

    for path, value in _paths(override).items():
        if value is not None and value != [None]:
            assert _at(merged, path) == value[0]
    for path, value in _paths(merged).items():
        if value is not None:
            assert value[0] in (_at(base, path), _at(override, path))
    assert base.keys() <= merged.keys() <= base.keys() | override.keys()


@given(mappings, mappings)
def test_each_line_tells_which_of_both_a_value_is_from(base: dict[str, Any], override: dict[str, Any]) -> None:
    def check(merged: LocatedDict, base: Any, override: Any) -> None:
        assert merged.keys() == merged.lines.keys()
        for key, value in merged.items():
            over = override.get(key)
            if over is None:
                assert merged.lines[key] == 1
            elif isinstance(over, dict) and isinstance(base.get(key), dict):
                assert merged.lines[key] == 1
                check(value, base[key], over)
            else:
                assert merged.lines[key] == 2

    check(merge(_located(base, 1), _located(override, 2)), base, override)


def test_a_merge_that_would_be_too_large_is_refused_with_the_overrides_line() -> None:
    large = _located(dict.fromkeys(range(60_000), 1), 1)

    with pytest.raises(OverrideError, match="more than 100000 values") as caught:
        merge(large, _located(dict.fromkeys(range(60_000), 1), 9))

    assert caught.value.line == 9
