"""``diff`` compares templates, trees of them and catalogs, and fails where somebody would be broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_tasker_events import DomainEvents

TEMPLATE = """\
name: checkout
namespace_name: payments
version: 1.0.0
domain_events:
  - {name: checkout.flagged, delivery_mode: fast}
steps:
  - name: charge
    handler: {task: shop.pay}
    publishes_events:
      - name: payment.processed
        schema: {type: object, required: [amount], properties: {amount: {type: number, enum: [1, 2]}}}
"""
NARROWED = TEMPLATE.replace("type: number", "type: integer")


@pytest.fixture(autouse=True)
def trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trees of templates, in the second of which a field's type is narrowed."""
    for name, text in (("old", TEMPLATE), ("new", NARROWED)):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "checkout.yml").write_text(text)
    monkeypatch.chdir(tmp_path)


LINE = (
    "BREAKING: payment.processed 1.0 amount: type-narrowed (number -> integer) [publishers]: "
    "a payload with a value of a former type is refused now\n"
)


@pytest.mark.parametrize("old", ["old", "old/deep/checkout.yml", "old/**/*.yml"])
def test_a_tree_a_template_or_a_pattern_is_compared(run_alone: Any, old: str) -> None:
    result = run_alone("diff", old, "new")

    assert (result.exit_code, result.output) == (1, f"{LINE}1 breaking change, 0 accepted, 0 safe\n")


@pytest.mark.parametrize(("form", "suffix"), [("json", "json"), ("asyncapi", "json"), ("asyncapi", "yaml")])
def test_a_catalog_is_compared_with_a_tree(run_alone: Any, form: str, suffix: str) -> None:
    assert run_alone("catalog", "--format", form, "--output", f"catalog.{suffix}", "old/deep/checkout.yml").exit_code == 0

    assert run_alone("diff", f"catalog.{suffix}", "old").output == "0 breaking changes, 0 accepted, 0 safe\n"
    assert run_alone("diff", f"catalog.{suffix}", "new").output.startswith(LINE)


def test_what_check_writes_is_compared_too(run_alone: Any) -> None:
    Path("checked.json").write_text(run_alone("check", "--format", "json", "old/deep/checkout.yml").output)

    assert run_alone("diff", "checked.json", "old").exit_code == 0


def test_an_app_has_the_same_contract_as_its_templates(
    run_celery: Any, run_alone: Any, shop: tuple[Celery, DomainEvents]
) -> None:
    app, _ = shop
    app.conf.tasker_events_templates = ["old/deep/checkout.yml"]

    @app.task(name="shop.pay")
    def pay() -> None: ...

    assert run_celery(app, "catalog", "--format", "asyncapi", "--output", "app.json").exit_code == 0

    assert run_alone("diff", "app.json", "old").output == "0 breaking changes, 0 accepted, 0 safe\n"
    assert run_celery(app, "diff", "app.json", "new").exit_code == 1


def test_a_raised_version_or_a_name_accepts_what_is_breaking(run_alone: Any, tmp_path: Path) -> None:
    assert run_alone("diff", "--accept", "payment.processed", "old", "new").exit_code == 0
    (tmp_path / "new/deep/checkout.yml").write_text(NARROWED.replace("version: 1.0.0", "version: 2.0.0"))

    result = run_alone("diff", "old", "new")

    assert (result.exit_code, result.output) == (
        0,
        f"{LINE.replace('BREAKING', 'accepted')}0 breaking changes, 1 accepted, 0 safe\n",
    )


def test_json_has_an_object_for_each_change(run_alone: Any) -> None:
    result = run_alone("diff", "--format", "json", "old", "new")

    assert result.exit_code == 1
    assert json.loads(result.output) == {
        "changes": [
            {
                "event": "payment.processed",
                "namespace": "payments",
                "old_version": "1.0",
                "new_version": "1.0",
                "change": "type-narrowed",
                "place": "amount",
                "old": "number",
                "new": "integer",
                "breaking": True,
                "accepted": False,
                "affects": ["publishers"],
                "reason": "a payload with a value of a former type is refused now",
            }
        ],
        "summary": {"breaking": 1, "accepted": 0, "safe": 0},
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[{}]", "bad event name None"),
        ("[7]", "an event of a catalog is an object, not 7"),
        ("{}", "neither a JSON catalog nor an AsyncAPI document"),
        ('{"asyncapi": "3.0.0"}', "has no 'x-domain-events'"),
        ("{", "it can't be read as JSON"),
        ('[{"event": "a.b", "step": 7}]', "step must be a string or null, not 7"),
        (
            '[{"event": "a.b", "namespace": "a", "version": "1", "delivery_mode": "fast", "schema": {"properties": 5}}]',
            "event 'a.b': invalid JSON Schema at properties",
        ),
        (
            '[{"event": "a.b", "namespace": "a", "version": "1", "delivery_mode": "post", "condition": []}]',
            "unknown delivery_mode 'post'",
        ),
        ('{"asyncapi": "3.0.0", "x-domain-events": [{"event": "a.b", "schema": {"$ref": "#/x"}}]}', "has no '#/x'"),
    ],
)
def test_what_is_no_catalog_can_not_be_compared(run_alone: Any, text: str, told: str) -> None:
    Path("bad.json").write_text(text)

    result = run_alone("diff", "bad.json", "new")

    assert result.exit_code == 2
    assert "bad.json can't be compared: " in result.stderr
    assert told in result.stderr


@pytest.mark.parametrize("source", ["empty", "missing", "wrong"])
def test_a_tree_without_templates_or_with_a_wrong_one_can_not_be_compared(run_alone: Any, tmp_path: Path, source: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "template.yaml").write_text("name: [")

    assert run_alone("diff", source, "new").exit_code == 2
    assert run_alone("diff", "old", source).exit_code == 2
