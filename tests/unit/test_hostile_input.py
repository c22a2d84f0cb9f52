"""What comes from outside, templates and messages, can be anything: it is read, or refused with the documented error."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click.testing
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_tasker_events.cli.main import main
from celery_tasker_events.envelope import read
from celery_tasker_events.envelope.registry import NAMES, by_name
from celery_tasker_events.errors import ConfigurationError
from celery_tasker_events.event import DomainEvent
from celery_tasker_events.schema import PayloadValidator
from celery_tasker_events.template import load_templates

from .making import make_event

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=15,
)

TEMPLATE = """
name: credit_card
namespace_name: payments
version: 1.0.0
steps:
  - name: pay
    handler: {callable: shop.pay}
    publishes_events:
      - name: payment.processed
        condition: success
        schema: {type: object, properties: {amount: {type: number}}}
"""

#: Runs longer where TEST_FUZZ_EXAMPLES says so.
EXAMPLES = int(os.environ.get("TEST_FUZZ_EXAMPLES", "150"))

fuzz = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def load(folder: Path, content: bytes) -> None:
    """Load a template file: what is wrong with it is among the problems, and never raised as anything else."""
    path = folder / "template.yaml"
    path.write_bytes(content)
    try:
        loaded = load_templates([str(path)], None)
    except ConfigurationError:
        return
    for problem in loaded.problems:
        assert problem.source == str(path)


@fuzz
@given(content=st.binary(max_size=300))
def test_any_bytes_as_a_template(tmp_path: Path, content: bytes) -> None:
    load(tmp_path, content)


@fuzz
@given(content=JSON)
def test_any_data_as_a_template(tmp_path: Path, content: Any) -> None:
    load(tmp_path, yaml.safe_dump(content).encode("utf-8", "backslashreplace"))


@fuzz
@given(data=st.data())
def test_a_template_with_any_value_in_any_place(tmp_path: Path, data: st.DataObject) -> None:
    document = yaml.safe_load(TEMPLATE)
    place: Any = document
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(JSON)

    load(tmp_path, yaml.safe_dump(document).encode("utf-8", "backslashreplace"))


@fuzz
@given(position=st.integers(0, len(TEMPLATE)), garbage=st.text(st.characters(codec="utf-8"), max_size=10))
def test_a_template_with_any_text_in_any_place(tmp_path: Path, position: int, garbage: str) -> None:
    load(tmp_path, (TEMPLATE[:position] + garbage + TEMPLATE[position:]).encode())


@fuzz
@given(schema=st.dictionaries(st.sampled_from(["type", "properties", "required", "pattern", "$ref", "enum", "items"]), JSON))
def test_any_mapping_as_a_schema(schema: dict[str, Any]) -> None:
    with contextlib.suppress(ConfigurationError):
        PayloadValidator(schema)


def is_well_typed(event: DomainEvent) -> None:
    metadata = event.metadata
    for text in (event.event_id, event.event_name, metadata.namespace, metadata.correlation_id, metadata.idempotency_key):
        assert isinstance(text, str)


@fuzz
@given(message=JSON)
def test_any_data_as_a_message(message: Any) -> None:
    with contextlib.suppress(ValueError):
        is_well_typed(read(message))


@pytest.mark.parametrize("name", NAMES)
@fuzz
@given(data=st.data())
def test_a_message_with_any_value_in_any_place(name: str, data: st.DataObject) -> None:
    message = yaml.safe_load(by_name(name).to_message(make_event(payload={"amount": 1})))
    place: Any = message
    while True:
        key = data.draw(st.sampled_from(sorted(place)))
        if not (isinstance(place[key], dict) and place[key]) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(JSON)

    with contextlib.suppress(ValueError):
        is_well_typed(read(message))


#: A template, and the line and the words with which it is refused.
HOSTILE = {
    "object tag": ("name: !!python/object/apply:os.system ['touch hacked']", 1, "python/object/apply:os.system is not allowed"),
    "module tag": (f"{TEMPLATE}description: !!python/module:antigravity\n", 12, "python/module:antigravity is not allowed"),
    "billion laughs": (
        "a: &a [x, x, x, x]\n"
        + "".join(f"{c}: &{c} [{', '.join(f'*{p}' for _ in range(9))}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)),
        1,
        "more than 100000 values once its aliases are expanded",
    ),
    "deep": ("[" * 5000, 1, "nested more than 100 levels deep"),
    "remote schema": (
        TEMPLATE.replace("type: number", "$ref: 'http://127.0.0.1:1/schema.json'"),
        11,
        "the JSON Schema refers to 'http://127.0.0.1:1/schema.json': only references within it",
    ),
    "local file schema": (
        TEMPLATE.replace("type: number", "$ref: 'file:///etc/passwd'"),
        11,
        "the JSON Schema refers to 'file:///etc/passwd': only references within it",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_template_is_refused_with_its_place(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text, line, words = HOSTILE[kind]
    path = tmp_path / "template.yaml"
    path.write_text(text)

    result = click.testing.CliRunner().invoke(main, ["check", str(path)])

    assert result.exit_code == 1
    [told, _] = result.stdout.splitlines()
    assert told.startswith(f"{path}:{line}: ")
    assert words in told
    assert list(tmp_path.iterdir()) == [path]


# What reads templates and messages loads modules of its own when it is first needed: by what is harmless, before that counts.
IMPORTING = """
import json, sys
from celery_tasker_events.cli.main import main
from celery_tasker_events.consumer.delivery import Message, Unreadable, open_message

def read(template, body):
    try:
        main(["check", template], standalone_mode=False)
    except SystemExit:
        pass
    try:
        open_message(Message("q", 1, 1, None, body, body))
    except Unreadable:
        pass

harmless, *hostile = json.loads(sys.argv[1])
read(*harmless)
before = set(sys.modules)
for template, body in hostile:
    read(template, body)
print(json.dumps(sorted(set(sys.modules) - before)))
"""

HOSTILE_MESSAGES = [
    '{"py/object": "antigravity.fly", "py/reduce": [{"py/type": "os.system"}, ["touch hacked"]]}',
    '{"__class__": "antigravity", "__module__": "antigravity"}',
]


def test_nothing_that_a_template_or_a_message_names_is_imported(tmp_path: Path) -> None:
    message = yaml.safe_load(by_name("native").to_message(make_event()))
    result = {"success": False, "status": "failed", "metadata": {}}
    named = {"type": "antigravity.Fly", "message": "no", "retryable": False}
    bodies = [*HOSTILE_MESSAGES, json.dumps({**message, "execution_result": {**result, "error": named}})]
    (harmless := tmp_path / "harmless.yaml").write_text(TEMPLATE)
    given = [(str(harmless), json.dumps(message))]
    for number, (kind, (text, _, _)) in enumerate(HOSTILE.items()):
        (path := tmp_path / f"{kind}.yaml").write_text(text)
        given.append((str(path), bodies[number % len(bodies)]))

    command = [sys.executable, "-c", IMPORTING, json.dumps(given)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)

    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert not (tmp_path / "hacked").exists()
