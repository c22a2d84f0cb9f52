"""YAML is read as plain data with lines, within limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from celery_tasker_events import located
from celery_tasker_events.errors import ConfigurationError


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def load_text(text: str | bytes) -> Any:
        path = tmp_path / "x.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return located.load(path)

    return load_text


def refused(load: Any, text: str | bytes) -> tuple[int | None, str]:
    """The line and the message of the one problem that the text has."""
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    [problem] = caught.value.problems
    assert problem.source.endswith("x.yaml")
    return problem.line, problem.message


def test_plain_values_come_as_yaml_means_them(load: Any) -> None:
    document = load("a: 1\nb: [x, 2.5, true, null]\nc: {d: 'e'}\n")

    assert document == {"a": 1, "b": ["x", 2.5, True, None], "c": {"d": "e"}}


def test_an_empty_document_is_none(load: Any) -> None:
    assert load("# nothing\n") is None


def test_a_byte_order_mark_is_no_part_of_the_first_key(load: Any) -> None:
    assert load("\ufeffa: 1\n") == {"a": 1}


def test_every_key_and_item_knows_its_line(load: Any) -> None:
    document = load("a:\n  - x\n\n  - b: 1\n    c: 2\nd: 3\n")

    assert (document.line, document.lines) == (1, {"a": 1, "d": 6})
    assert document["a"].lines == [2, 4]
    assert (document["a"][1].line, document["a"][1].lines) == (4, {"b": 4, "c": 5})
    assert document["a"][1].line_of("no such key") == 4


MERGED = """\
base: &base
  mode: fast
  version: "1"
other: &other
  mode: durable
  namespace: shop
derived:
  version: "2"
  <<: [*base, *other]
  name: a.b
"""


def test_merge_keys_add_what_the_mapping_lacks_and_the_first_named_wins(load: Any) -> None:
    assert load(MERGED)["derived"] == {"version": "2", "mode": "fast", "namespace": "shop", "name": "a.b"}


def test_a_merged_key_knows_the_line_where_it_was_written(load: Any) -> None:
    assert load(MERGED)["derived"].lines == {"version": 8, "mode": 2, "namespace": 6, "name": 10}


@pytest.mark.parametrize("text", ["a: {<<: {x: 1}, x: 2}", "a: {x: 2, <<: {x: 1}}", "a:\n  <<: {x: 1}\n  x: 2\n"])
def test_a_mappings_own_key_wins_over_a_merged_one_wherever_they_stand(load: Any, text: str) -> None:
    assert load(text) == {"a": {"x": 2}}


def test_merges_reach_through_merges(load: Any) -> None:
    document = load("a: &a {x: 1, y: 1}\nb: &b {<<: *a, y: 2}\nc:\n  <<: *b\n  z: 3\n")

    assert document["c"] == {"x": 1, "y": 2, "z": 3}


@pytest.mark.parametrize("merged", ["1", "[1]", "*text"])
def test_only_mappings_can_be_merged(load: Any, merged: str) -> None:
    assert refused(load, f"t: &text x\na:\n  <<: {merged}\n") == (3, "'<<' takes a mapping or a list of mappings")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", 3),
        ("x:\n  a: 1\n  a: 1\n", 3),
        ("base: &b {x: 1}\nd:\n  <<: *b\n  x: 2\n  x: 3\n", 5),
    ],
)
def test_a_key_that_is_given_twice_is_told_with_the_second_line(load: Any, text: str, line: int) -> None:
    told_line, message = refused(load, text)

    assert told_line == line
    assert "is given twice" in message


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['touch pwned']",
        "!!python/name:os.system",
        "!!python/object:builtins.object {}",
        "!custom x",
        "!!set {x}",
        "!!omap [x: 1]",
        "!!map x",
        "!!seq x",
    ],
)
def test_tags_that_make_objects_are_refused(load: Any, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    line, message = refused(load, f"a: 1\nb: {value}\n")

    assert line == 2
    assert "is not allowed: plain values only" in message
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("value", ["!!bool x", "!!timestamp x", "!!int ''", "!!float x", "!!binary é", "2024-13-45"])
def test_a_value_that_is_not_what_its_tag_says_is_told_with_its_line(load: Any, value: str) -> None:
    line, message = refused(load, f"a: 1\nb: {value}\n")

    assert line == 2
    assert message.startswith("bad value ")


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: [1,\n  b: 2\nc: 3\n", 3), ("a: *nowhere\n", 1), ("--- a\n--- b\n", 2), ("a:\n\tb: 1\n", 2), ("a: '\n", 2)],
)
def test_what_is_not_yaml_is_told_with_its_line(load: Any, text: str, line: int) -> None:
    told_line, message = refused(load, text)

    assert told_line == line
    assert message.startswith("not YAML: ")


def test_control_characters_are_no_yaml(load: Any) -> None:
    assert "special characters are not allowed" in refused(load, "a: \x07\n")[1]


def test_a_file_that_is_not_utf_8_is_told(load: Any) -> None:
    assert "'utf-8' codec can't decode" in refused(load, b"a: caf\xe9\n")[1]


def test_a_file_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gone\.yaml: can't be read: "):
        located.load(tmp_path / "gone.yaml")


@pytest.mark.parametrize("text", ["? [1]\n: x\n", "? {a: 1}\n: x\n"])
def test_a_key_must_be_a_plain_value(load: Any, text: str) -> None:
    assert refused(load, text) == (1, "a key must be a plain value")


# Limits


def test_a_file_may_be_as_large_as_the_limit_and_no_larger(load: Any) -> None:
    text = "a: 1\n#"
    allowed = text + "x" * (located.MAX_BYTES - len(text))

    assert load(allowed) == {"a": 1}
    assert "more than the 1048576 that a template may have" in refused(load, allowed + "x")[1]


def test_a_hundred_aliases_are_accepted_and_one_more_is_not(load: Any) -> None:
    text = "a: &a 1\nb:\n" + "  - *a\n" * located.MAX_ALIASES

    assert load(text)["b"] == [1] * located.MAX_ALIASES
    assert refused(load, text + "  - *a\n") == (3 + located.MAX_ALIASES, "more than 100 aliases (*name)")


def _nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def test_a_hundred_levels_are_accepted_and_one_more_is_not(load: Any) -> None:
    load(_nested(located.MAX_DEPTH))

    assert refused(load, _nested(located.MAX_DEPTH + 1))[1] == "nested more than 100 levels deep"


def test_a_depth_that_would_exhaust_the_stack_is_refused_like_any_other(load: Any) -> None:
    assert refused(load, _nested(50_000))[1] == "nested more than 100 levels deep"


def test_a_hundred_levels_by_way_of_aliases_are_no_more_than_a_hundred(load: Any) -> None:
    half = "[" * 60 + "1" + "]" * 60
    deep = "[" * 60 + "*a" + "]" * 60

    assert refused(load, f"a: &a {half}\nb: {deep}\n")[1] == "nested more than 100 levels deep"


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: &a {b: *a}\n", "a: &a {<<: *a}\n"])
def test_a_value_that_holds_itself_is_refused(load: Any, text: str) -> None:
    assert refused(load, text)[1] == "nested more than 100 levels deep"


def _laughs(line: str, levels: int = 9) -> str:
    return "l0: &l0 {k: ha}\n" + "".join(line.format(i=i, aliases=", ".join([f"*l{i - 1}"] * 10)) for i in range(1, levels + 1))


@pytest.mark.parametrize("line", ["l{i}: &l{i} [{aliases}]\n", "l{i}: &l{i} {{<<: [{aliases}]}}\n"], ids=["lists", "merges"])
def test_a_billion_laughs_are_bounded(load: Any, line: str) -> None:
    assert refused(load, _laughs(line))[1] == "more than 100000 values once its aliases are expanded"
