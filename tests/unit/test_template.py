"""YAML task templates become declarations, or problems with file and line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from celery_tasker_events.declaration import Condition, DeliveryMode, EventDeclaration
from celery_tasker_events.template import load_templates

Write = Callable[..., Path]

TEMPLATE = """\
name: checkout
namespace_name: payments
version: 1.2.0
description: Pays for an order.
task_handler:
  callable: shop.Checkout
system_dependencies: {primary: default}
domain_events:
  - name: checkout.flagged
    delivery_mode: fast
steps:
  - name: process_payment
    dependencies: [reserve]
    handler:
      callable: shop.tasks.process_payment
      initialization: {retries: 3}
    retry: {max_attempts: 3}
    publishes_events:
      - name: payment.processed
        delivery_mode: broadcast
        schema:
          type: object
          required: [amount]
      - name: payment.failed
        condition: permanent_failure
        publisher: PaymentPublisher
  - name: notify
    handler: {task: shop.notify}
  - name: bare
"""


def problems_of(path: Path) -> list[tuple[int | None, str]]:
    templates, problems = load_templates([str(path)])
    assert templates == []
    assert {problem.source for problem in problems} <= {str(path)}
    return [(problem.line, problem.message) for problem in problems]


def test_a_template_gives_its_steps_and_their_declarations(write_template: Write) -> None:
    [template], problems = load_templates([str(write_template(TEMPLATE))])

    assert problems == []
    assert (template.name, template.namespace, template.version) == ("checkout", "payments", "1.2.0")
    assert template.description == "Pays for an order."
    assert [(s.name, s.task, s.callable) for s in template.steps] == [
        ("process_payment", None, "shop.tasks.process_payment"),
        ("notify", "shop.notify", None),
        ("bare", None, None),
    ]
    assert [e.declaration for e in template.steps[0].events] == [
        EventDeclaration(
            "payment.processed", delivery_mode=DeliveryMode.BROADCAST, schema={"type": "object", "required": ["amount"]}
        ),
        EventDeclaration("payment.failed", condition=Condition.PERMANENT_FAILURE, publisher="PaymentPublisher"),
    ]
    assert [e.declaration for e in template.events] == [EventDeclaration("checkout.flagged", delivery_mode=DeliveryMode.FAST)]


def test_the_orchestrators_fields_are_kept_as_they_are(write_template: Write) -> None:
    [template], _ = load_templates([str(write_template(TEMPLATE))])

    assert template.definition["system_dependencies"] == {"primary": "default"}
    assert template.steps[0].definition["retry"] == {"max_attempts": 3}


def test_a_declaration_knows_its_file_and_the_lines_of_its_fields(write_template: Write) -> None:
    path = write_template(TEMPLATE)
    [template], _ = load_templates([str(path)])

    declared = template.steps[0].events[1]

    assert (declared.source, declared.line) == (str(path), 24)
    assert declared.field_lines == {"name": 24, "condition": 25, "publisher": 26}


@pytest.mark.parametrize(
    ("right", "wrong", "line", "message"),
    [
        (
            "namespace_name:",
            "namespce_name:",
            2,
            "unknown field 'namespce_name' in a task template. Did you mean 'namespace_name'?",
        ),
        ("namespace_name: payments", "namespace_name: Pay-ments", 2, "bad namespace 'Pay-ments'"),
        ("namespace_name: payments", f"namespace_name: {'n' * 30}", 2, "is too long: 29 characters at most"),
        ("namespace_name: payments", "namespace_name: [payments]", 2, "namespace_name must be a string, not ['payments']"),
        ("name: checkout\n", "name: 7\n", 1, "name must be a string, not 7"),
        ("description: Pays for an order.", "description: {a: 1}", 4, "description must be a string"),
        (
            "publishes_events:\n",
            "publish_events:\n",
            18,
            "unknown field 'publish_events' in a step. Did you mean 'publishes_events'?",
        ),
        ("callable: shop.tasks", "calable: shop.tasks", 15, "unknown field 'calable' in a handler. Did you mean 'callable'?"),
        ("callable: shop.tasks.process_payment", "callable: 5", 15, "callable must be a string, not 5"),
        ("handler: {task: shop.notify}", "handler: shop.notify", 28, "handler must be a mapping"),
        ("handler: {task: shop.notify}", "handler: []", 28, "handler must be a mapping"),
        ("- name: notify", "- nam: notify", 27, "unknown field 'nam' in a step. Did you mean 'name'?"),
        ("- name: notify", "- name: process_payment", 27, "step 'process_payment' is defined twice, first in line 12"),
        ("- name: bare", "- bare", 29, "a step is a mapping with a 'name', not 'bare'"),
        ("- name: checkout.flagged", "- name: flagged", 9, "bad event name 'flagged'"),
        ("delivery_mode: fast", "delivery_mode: fsat", 10, "unknown delivery_mode 'fsat'. Did you mean 'fast'?"),
        ("- name: payment.processed", "- name: Payment.Processed", 19, "bad event name 'Payment.Processed'"),
        ("delivery_mode: broadcast", "delivery_mod: broadcast", 20, "Did you mean 'delivery_mode'?"),
        ("delivery_mode: broadcast", "version: 1.0", 20, "version must be a string, not 1.0 (quote it)"),
        ("condition: permanent_failure", "condition: permanent", 25, "Did you mean 'permanent_failure'?"),
        ("condition: permanent_failure", "namespace: Shop", 25, "bad namespace 'Shop'"),
        ("publisher: PaymentPublisher", "publisher: [A]", 26, "publisher must be a string, not ['A']"),
        ("publisher: PaymentPublisher", "schema: object", 26, "schema must be a mapping (a JSON Schema), not 'object'"),
        ("condition: permanent_failure", "name: payment.other", 25, "key 'name' is given twice"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_may_be_meant(
    write_template: Write, right: str, wrong: str, line: int, message: str
) -> None:
    assert right in TEMPLATE
    path = write_template(TEMPLATE.replace(right, wrong, 1))

    told = problems_of(path)

    assert [at for at, text in told if message in text] == [line]


def test_every_mistake_of_a_file_is_told_at_once(write_template: Write) -> None:
    path = write_template(
        "name: x\nnamespace_name: Bad\nsteps:\n  - name: a\n    publishes_events:\n"
        "      - {name: b, condition: never}\n      - 7\n"
    )

    assert [line for line, _ in problems_of(path)] == [2, 6, 6, 7]


@pytest.mark.parametrize("missing", ["name", "namespace_name"])
def test_a_missing_field_is_told(write_template: Write, missing: str) -> None:
    lines = [line for line in ("name: x", "namespace_name: y") if not line.startswith(f"{missing}:")]

    assert problems_of(write_template("\n".join(lines))) == [(1, f"{missing!r} is missing")]


@pytest.mark.parametrize("field", ["steps", "domain_events"])
def test_a_list_must_be_a_list(write_template: Write, field: str) -> None:
    path = write_template(f"name: x\nnamespace_name: y\n{field}: {{a: 1}}\n")

    assert problems_of(path) == [(3, f"{field} must be a list, not {{'a': 1}}")]


@pytest.mark.parametrize("text", ["", "- a\n", "just text\n"])
def test_a_document_that_is_no_mapping_is_no_template(write_template: Write, text: str) -> None:
    assert problems_of(write_template(text)) == [(1, "a task template is a mapping with 'name', 'namespace_name' and 'steps'")]


def test_a_field_without_a_value_is_as_if_it_were_not_there(write_template: Write) -> None:
    path = write_template("name: x\nnamespace_name: y\nversion:\nsteps:\ndomain_events:\n")

    [template], problems = load_templates([str(path)])

    assert problems == []
    assert (template.version, template.steps, template.events) == ("", [], [])


def test_a_merged_declaration_is_told_with_the_line_of_the_mistake(write_template: Write) -> None:
    path = write_template(
        "name: x\nnamespace_name: y\nmetadata:\n  common: &common\n    delivery_mode: slow\n"
        "steps:\n  - name: a\n    publishes_events:\n      - <<: *common\n        name: a.b\n"
    )

    assert [line for line, _ in problems_of(path)] == [5]


def test_a_broken_file_does_not_keep_the_others_from_loading(write_template: Write, tmp_path: Path) -> None:
    write_template("name: good\nnamespace_name: shop\n", "good.yaml")
    write_template("name: [bad\n", "bad.yaml")

    templates, problems = load_templates([str(tmp_path / "*.yaml")])

    assert [template.name for template in templates] == ["good"]
    assert [Path(problem.source).name for problem in problems] == ["bad.yaml"]


def test_two_stars_reach_into_folders(tmp_path: Path) -> None:
    for folder in ("a", "a/b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.yaml").write_text(f"name: {folder[-1]}\nnamespace_name: shop\n")

    templates, _ = load_templates([str(tmp_path / "**" / "*.yaml")])

    assert [template.name for template in templates] == ["b", "a"]


def test_a_file_that_two_patterns_match_is_read_once(write_template: Write, tmp_path: Path) -> None:
    path = write_template("name: x\nnamespace_name: y\n")

    templates, _ = load_templates([str(path), str(tmp_path / "*.yaml")])

    assert len(templates) == 1


def test_a_pattern_that_matches_nothing_is_a_problem(tmp_path: Path) -> None:
    _, [problem] = load_templates([str(tmp_path / "no" / "*.yaml")])

    assert "no task template matches this pattern" in problem.message
