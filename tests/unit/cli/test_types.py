"""``types`` writes a Python module with a type for each payload."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_tasker_events import DomainEvents, publishes_events

TEMPLATE = """\
name: checkout
namespace_name: payments
steps:
  - name: charge
    publishes_events:
      - {name: payment.processed, schema: {required: [amount], properties: {amount: {type: number}}}}
"""


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("options", "base"), [((), "TypedDict"), (("--pydantic",), "BaseModel")])
def test_the_module_says_how_to_write_it_again(run_alone: Any, write_template: Any, options: tuple[str, ...], base: str) -> None:
    write_template(TEMPLATE, "my template.yaml")

    result = run_alone("types", *options, "--output", "events.py", "my template.yaml")

    assert (result.exit_code, result.output) == (0, "")
    text = Path("events.py").read_text()
    again = " ".join(["celery-tasker-events types", *options, "--output events.py 'my template.yaml'"])
    assert f"#   {again}\n" in text
    assert f"class PaymentProcessed({base}):\n    amount: float\n" in text


def test_an_app_has_the_types_of_what_its_decorators_declare(run_celery: Any, shop: tuple[Celery, DomainEvents]) -> None:
    app, _ = shop

    @app.task(name="shop.pay")
    @publishes_events("payment.processed", schema={"type": "array", "items": {"type": "string"}})
    def pay() -> None: ...

    result = run_celery(app, "types")

    assert "#   celery -A shop domain-events types\n" in result.output
    assert "PaymentProcessed = list[str]\n" in result.output


def test_without_templates_and_an_app_there_is_nothing_to_write(run_alone: Any) -> None:
    result = run_alone("types")

    assert result.exit_code == 2
    assert "no task template: give files or patterns" in result.stderr


def test_a_wrong_template_is_told(run_alone: Any, write_template: Any) -> None:
    write_template(TEMPLATE.replace("schema: {", "schema: {type: nothing, "), "bad.yaml")

    result = run_alone("types", "bad.yaml")

    assert result.exit_code == 1
    assert "bad.yaml:6: event 'payment.processed': invalid JSON Schema" in result.stderr


def test_json_has_the_module_in_it(run_alone: Any, write_template: Any) -> None:
    write_template(TEMPLATE, "template.yaml")

    told = json.loads(run_alone("types", "--format", "json", "--pydantic", "template.yaml").output)
    written = json.loads(run_alone("types", "--format", "json", "--output", "events.py", "template.yaml").output)

    assert told == {"pydantic": True, "output": None, "module": run_alone("types", "--pydantic", "template.yaml").output}
    assert (written["output"], written["module"]) == ("events.py", Path("events.py").read_text())
