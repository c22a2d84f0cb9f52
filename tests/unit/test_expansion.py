"""``${VAR}`` in strings: replaced once, from what is given, and never by more than the limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_tasker_events.expansion import ExpansionError, ExpansionLimit, TextTooLong, expand_document, expand_text
from celery_tasker_events.located import LocatedDict, LocatedList

VARIABLES = {"HOST": "db", "EMPTY": "", "_x9": "odd", "NESTED": "${HOST}"}

# Much of what matters here is made of these few characters.
tricky = st.text(st.sampled_from("${}:-AB_ \n")) | st.text()


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${HOST}", "db"),
        ("a-${HOST}/${_x9}!", "a-db/odd!"),
        ("${EMPTY}", ""),
        ("${HOST:-other}", "db"),
        ("${NO:-other}", "other"),
        ("${EMPTY:-other}", "other"),
        ("${NO:-}", ""),
        ("${NO:-a:-b $HOST {}", "a:-b $HOST {"),
        ("${NESTED}", "${HOST}"),
        ("$${HOST}", "${HOST}"),
        ("$$${HOST}", "$${HOST}"),
        ("$${HOST} is ${HOST}", "${HOST} is db"),
    ],
)
def test_a_reference_becomes_its_value(text: str, expanded: str) -> None:
    assert expand_text(text, VARIABLES) == expanded


@pytest.mark.parametrize(
    "text", ["", "$", "$HOST", "{HOST}", "$$", "^[A-Z]{3}$", "${}", "${5}", "${a b}", "${HOST", "${HOST-x}", "${NO:-x"]
)
def test_what_is_no_reference_stays_as_it_is(text: str) -> None:
    assert expand_text(text, VARIABLES) == text


def test_a_variable_that_is_not_set_and_has_no_default_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(
        ExpansionError, match=r"^environment variable NO is not set\. Set it, or give a default: \$\{NO:-\.\.\.\}$"
    ):
        expand_text("${HOST} ${NO}", VARIABLES)


@pytest.mark.parametrize("text", ["${NO:-${HOST}}", "${HOST:-${NO}}", "${NO:-$${HOST}}"])
def test_a_reference_within_a_default_is_an_error_whether_or_not_it_would_count(text: str) -> None:
    with pytest.raises(ExpansionError, match="holds another reference"):
        expand_text(text, VARIABLES)


@given(value=tricky, before=st.text(st.characters(exclude_characters="$")), after=tricky)
def test_a_value_is_never_expanded_again(value: str, before: str, after: str) -> None:
    rest = after.replace("${", "$ {")

    assert expand_text(f"{before}${{A}}{rest}", {"A": value, "B": "never"}) == before + value + rest


@given(tricky)
def test_an_escaped_text_comes_out_as_it_was(text: str) -> None:
    assert expand_text(text.replace("${", "$${"), {}) == text


@given(tricky, st.dictionaries(st.sampled_from(["A", "B", "AB"]), tricky))
def test_any_text_either_expands_or_is_refused_for_a_reason(text: str, variables: dict[str, str]) -> None:
    try:
        expanded = expand_text(text, variables)
    except ExpansionError:
        assert "${" in text
    else:
        assert "${" in text or expanded == text


@pytest.mark.parametrize("text", ["${A:-" * 200_000, "${" + "A" * 1_000_000, "$" * 1_000_000, "${A:-x" * 150_000 + "}"])
def test_a_text_that_is_made_to_be_slow_is_not(text: str) -> None:
    try:
        assert expand_text(text, {}) == text
    except ExpansionError:
        assert text.endswith("}")


def test_a_text_is_given_up_as_soon_as_it_is_too_long() -> None:
    assert expand_text("-${A}${A}", {"A": "12"}, limit=5) == "-1212"
    with pytest.raises(TextTooLong):
        # All of it would be 100 GB.
        expand_text("${A}" * 100_000, {"A": "x" * 1_000_000}, limit=5)


# Documents


def document(**values: object) -> LocatedDict:
    located = LocatedDict(values)
    located.line, located.lines = 1, {key: line for line, key in enumerate(values, 1)}
    return located


def needed(path: tuple[object, ...]) -> bool:
    return path[0] == "needed"


def test_only_strings_are_expanded_and_keys_are_not() -> None:
    given_ = document(**{"${HOST}": "${HOST}", "number": 5, "none": None, "yes": True})

    expanded, problems = expand_document(given_, VARIABLES, needed)

    assert expanded == {"${HOST}": "db", "number": 5, "none": None, "yes": True}
    assert problems == []


def test_lists_and_mappings_keep_their_lines_and_the_original_is_not_changed() -> None:
    items = LocatedList(["${HOST}", document(a="${HOST}")])
    items.lines = [7, 8]
    original = document(needed=items)

    expanded, _ = expand_document(original, VARIABLES, needed)

    assert expanded == {"needed": ["db", {"a": "db"}]}
    assert (expanded.line, expanded.lines) == (1, {"needed": 1})
    assert (expanded["needed"].lines, expanded["needed"][1].lines) == ([7, 8], {"a": 1})
    assert original == {"needed": ["${HOST}", {"a": "${HOST}"}]}


def test_a_string_that_can_not_be_expanded_is_told_where_it_is_needed_and_kept_whole_elsewhere() -> None:
    expanded, problems = expand_document(document(other="${HOST} $${HOST} ${NO}", needed="${NO}"), VARIABLES, needed)

    assert expanded == {"other": "${HOST} $${HOST} ${NO}", "needed": "${NO}"}
    [(line, message)] = problems
    assert line == 2
    assert message.startswith("needed: environment variable NO is not set.")


def test_values_that_are_shared_count_each_time() -> None:
    shared = LocatedList(["x"] * 1000)
    shared.lines = [5] * 1000
    many = document(**{f"k{number}": shared for number in range(100)})

    with pytest.raises(ExpansionLimit, match="more than 100000 values once overrides are applied") as caught:
        expand_document(many, {}, needed)

    assert caught.value.line == 5
