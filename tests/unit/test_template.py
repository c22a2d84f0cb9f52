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
    templates, problems, _ = load_templates([str(path)])
    assert templates == []
    assert {problem.source for problem in problems} <= {str(path)}
    return [(problem.line, problem.message) for problem in problems]


def test_a_template_gives_its_steps_and_their_declarations(write_template: Write) -> None:
    [template], problems, _ = load_templates([str(write_template(TEMPLATE))])

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
    [template], *_ = load_templates([str(write_template(TEMPLATE))])

    assert template.definition["system_dependencies"] == {"primary": "default"}
    assert template.steps[0].definition["retry"] == {"max_attempts": 3}


def test_a_declaration_knows_its_file_and_the_lines_of_its_fields(write_template: Write) -> None:
    path = write_template(TEMPLATE)
    [template], *_ = load_templates([str(path)])

    declared = template.steps[0].events[1]

    assert (declared.source, declared.line) == (str(path), 24)
    assert declared.field_lines == {"name": 24, "condition": 25, "publisher": 26}


@pytest.mark.parametrize(
    ("right", "wrong", "line", "message"),
    [
        ("namespace_name: payments", "namespace_name: Pay-ments", 2, "bad namespace 'Pay-ments'"),
        ("namespace_name: payments", f"namespace_name: {'n' * 30}", 2, "is too long: 29 characters at most"),
        ("namespace_name: payments", "namespace_name: [payments]", 2, "namespace_name must be a string, not ['payments']"),
        ("name: checkout\n", "name: 7\n", 1, "name must be a string, not 7"),
        ("description: Pays for an order.", "description: {a: 1}", 4, "description must be a string"),
        ("callable: shop.tasks.process_payment", "callable: 5", 15, "callable must be a string, not 5"),
        ("handler: {task: shop.notify}", "handler: shop.notify", 28, "handler must be a mapping"),
        ("handler: {task: shop.notify}", "handler: []", 28, "handler must be a mapping"),
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
        (
            "publisher: PaymentPublisher",
            "schema: object",
            26,
            "schema must be a mapping (a JSON Schema), or in Python a class, not 'object'",
        ),
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

    [template], problems, _ = load_templates([str(path)])

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

    templates, problems, _ = load_templates([str(tmp_path / "*.yaml")])

    assert [template.name for template in templates] == ["good"]
    assert [Path(problem.source).name for problem in problems] == ["bad.yaml"]


def test_two_stars_reach_into_folders(tmp_path: Path) -> None:
    for folder in ("a", "a/b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.yaml").write_text(f"name: {folder[-1]}\nnamespace_name: shop\n")

    templates, *_ = load_templates([str(tmp_path / "**" / "*.yaml")])

    assert [template.name for template in templates] == ["b", "a"]


def test_a_file_that_two_patterns_match_is_read_once(write_template: Write, tmp_path: Path) -> None:
    path = write_template("name: x\nnamespace_name: y\n")

    templates, *_ = load_templates([str(path), str(tmp_path / "*.yaml")])

    assert len(templates) == 1


def test_a_pattern_that_matches_nothing_is_a_problem(tmp_path: Path) -> None:
    _, [problem], _ = load_templates([str(tmp_path / "no" / "*.yaml")])

    assert "no task template matches this pattern" in problem.message


# Fields that this package does not act on

REFERENCE = """\
name: refund
namespace_name: payments
version: 2.1.0
description: Gives money back.
loaded_from: /srv/templates/refund.yaml
metadata: {author: ops, tags: [pattern:batch], documentation_url: , created_at: "2025-08-17T20:18:41Z"}
task_handler: {callable: "Refunds::TaskHandler", initialization: {audit: true}}
system_dependencies: {primary: gateway, secondary: [ledger]}
lifecycle: {max_duration_minutes: 60, staleness_action: dlq}
input_schema: {type: object, required: [order_id]}
domain_events: []
steps:
  - name: plan
    description: Splits the day's refunds.
    type: batchable
    system_dependency:
    dependencies: []
    handler:
      callable: Refunds::StepHandlers::Plan
      method: split
      resolver: explicit_mapping
      initialization: {url: "${REFUND_GATEWAY_URL}"}
    retry: {retryable: true, limit: 3, backoff: exponential, backoff_base_ms: 1000, max_backoff_ms: 30000}
    timeout_seconds: 120
    batch_config: {batch_size: 200, parallelism: 5, cursor_field: id, worker_template: pay_back}
    result_schema: {type: object}
    publishes_events: []
  - name: pay_back
    type: batch_worker
    depends_on: [plan]
    retry: {retryable: false, max_attempts: 2}
    lifecycle: {max_steps_in_process_minutes: 120}
    handler: {callable: "Refunds::StepHandlers::PayBack", task: shop.pay_back}
    publishes_events:
      - name: refund.paid
        condition: always
  - name: report
    type: deferred_convergence
    dependencies: [pay_back]
    handler: {callable: "Refunds::StepHandlers::Report"}
environments:
  test:
    task_handler: {initialization: {audit: false}}
    steps:
      - name: ALL
        timeout_seconds: 5
      - name: plan
        timeout_seconds:
        retry:
        handler: {initialization: {url: "http://localhost"}}
"""


def test_a_template_as_the_reference_system_writes_it_loads_without_a_word(write_template: Write) -> None:
    [template], problems, warnings = load_templates([str(write_template(REFERENCE))], variables={})

    assert (problems, warnings) == ([], [])
    assert template.workflow == "payments/refund"
    assert [(step.name, step.task, step.callable) for step in template.steps] == [
        ("plan", None, "Refunds::StepHandlers::Plan"),
        ("pay_back", "shop.pay_back", "Refunds::StepHandlers::PayBack"),
        ("report", None, "Refunds::StepHandlers::Report"),
    ]
    assert [[event.declaration.name for event in step.events] for step in template.steps] == [[], ["refund.paid"], []]
    definition = template.steps[0].definition
    assert definition["retry"]["limit"] == 3
    assert definition["handler"]["initialization"] == {"url": "${REFUND_GATEWAY_URL}"}
    assert definition["batch_config"]["worker_template"] == "pay_back"


@pytest.mark.parametrize(
    ("right", "wrong", "line", "message"),
    [
        ("version: 1", "verison: 1", 3, "unknown field 'verison' in a task template. Did you mean 'version'?"),
        ("callable: shop.Ch", "calable: shop.Ch", 6, "unknown field 'calable' in a handler. Did you mean 'callable'?"),
        ("callable: shop.t", "calable: shop.t", 15, "unknown field 'calable' in a handler. Did you mean 'callable'?"),
        ("    retry:", "    rety:", 17, "unknown field 'rety' in a step. Did you mean 'retry'?"),
        (
            "publishes_events:\n",
            "publish_events:\n",
            18,
            "unknown field 'publish_events' in a step. Did you mean 'publishes_events'?",
        ),
        ("version: 1.2.0", "7: x", 3, "unknown field 7 in a task template. Known: "),
    ],
)
def test_a_field_that_nothing_knows_is_a_warning_and_the_template_counts(
    write_template: Write, right: str, wrong: str, line: int, message: str
) -> None:
    assert right in TEMPLATE
    path = write_template(TEMPLATE.replace(right, wrong, 1))

    templates, problems, warnings = load_templates([str(path)])

    assert (len(templates), problems) == (1, [])
    [warning] = warnings
    assert (warning.source, warning.line) == (str(path), line)
    assert warning.message.startswith(message)


def test_a_misspelt_field_is_a_warning_even_where_its_lack_is_an_error(write_template: Write) -> None:
    templates, problems, warnings = load_templates([str(write_template("nmae: x\nnamespace_name: y\n"))])

    assert templates == []
    assert [problem.message for problem in problems] == ["'name' is missing"]
    assert [warning.message for warning in warnings] == ["unknown field 'nmae' in a task template. Did you mean 'name'?"]


def test_two_versions_of_one_template_are_a_problem(write_template: Write, tmp_path: Path) -> None:
    first = write_template("name: x\nnamespace_name: y\nversion: 1.0.0\n", "1.0.0.yaml")
    second = write_template("name: x\nnamespace_name: y\nversion: 1.1.0\n", "1.1.0.yaml")

    [template], [problem], _ = load_templates([str(tmp_path / "*.yaml")])

    assert template.source == str(first)
    assert str(problem) == f"{second}: template 'y/x' is loaded already from {first}: keep one of its versions"
