"""What ``types`` writes passes mypy --strict and is as ruff formats it, whatever the schemas are."""

from __future__ import annotations

import subprocess
import sys

import hypothesis
import pytest
from hypothesis import strategies as st

from celery_tasker_events.contract.entry import CatalogEntry
from celery_tasker_events.contract.python_types import python_types

KEYS = st.sampled_from(["a", "b_c", "class", "a-b", "ü", "__x", "model_config", "json", "type", "x" * 60, 'say "x"', "_y", "9"])
TEXTS = st.sampled_from(
    ["one", "a longer text than most", 'say "yes"', "it's", "both ' and \"", "back\\slash", "\n", "\U0001f600"]
)
LEAVES = (
    st.fixed_dictionaries({"type": st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"])})
    | st.fixed_dictionaries({"enum": st.lists(TEXTS | st.integers(-1, 1) | st.none(), min_size=1, max_size=8, unique=True)})
    | st.just({"$ref": "#"})
    | st.just({"$ref": "#/definitions/Thing"})
    | st.just({})
)


def around(inner):
    objects = st.fixed_dictionaries(
        {"properties": st.dictionaries(KEYS, inner, min_size=1, max_size=5), "required": st.lists(KEYS, unique=True, max_size=4)},
        optional={
            "description": st.sampled_from(["text", "type: ignore", "fmt: off", 'two\nlines """ ']),
            "additionalProperties": st.booleans() | inner,
        },
    )
    arrays = st.fixed_dictionaries({"type": st.just("array"), "items": inner})
    mappings = st.fixed_dictionaries({"type": st.just("object"), "additionalProperties": inner})
    unions = st.builds(lambda choices: {"anyOf": choices}, st.lists(inner, min_size=1, max_size=4))
    return objects | objects | arrays | mappings | unions


SCHEMAS = st.builds(
    lambda schema, thing: {**schema, "definitions": {"Thing": thing}},
    st.recursive(LEAVES, around, max_leaves=12),
    st.recursive(LEAVES, around),
)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """A folder with a module for each of many sets of schemas."""
    folder = tmp_path_factory.mktemp("generated")
    number = 0

    @hypothesis.settings(max_examples=60, derandomize=True, deadline=None, database=None)
    @hypothesis.given(st.lists(SCHEMAS, min_size=1, max_size=3))
    def write(schemas):
        nonlocal number
        entries = [
            CatalogEntry(f"thing.made{index}", "1.0", "things", None, "durable", schema=schema)
            for index, schema in enumerate(schemas)
        ]
        for pydantic in (False, True):
            number += 1
            (folder / f"module_{number}.py").write_text(python_types(entries, "make types", pydantic=pydantic), encoding="utf-8")

    write()
    assert number > 60
    return folder


def run(*command, folder):
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


def test_ruff_has_nothing_to_format(generated):
    pytest.importorskip("ruff")
    run("ruff", "format", "--isolated", "--diff", ".", folder=generated)


def test_mypy_has_nothing_to_say(generated, tmp_path):
    for module in ("mypy", "pydantic"):
        pytest.importorskip(module)
    run("mypy", "--strict", "--cache-dir", str(tmp_path), "--config-file", "", ".", folder=generated)


def test_every_module_can_be_imported(generated):
    pytest.importorskip("pydantic")
    modules = sorted(path.stem for path in generated.glob("module_*.py"))
    run("compileall", "-q", ".", folder=generated)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import {', '.join(modules)}"], cwd=generated, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
