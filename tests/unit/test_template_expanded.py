"""Templates with variables and environments: what comes out of them is checked, told with its line, and bounded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from celery_tasker_events.declaration import DeliveryMode
from celery_tasker_events.template import load_templates

Write = Callable[..., Path]

# Variables


EXPANDED = """\
name: ${FLOW}
namespace_name: "${NS:-payments}"
description: By ${TEAM}.
domain_events:
  - name: flow.${WHAT:-flagged}
steps:
  - name: ${STEP}
    handler:
      callable: ${CALLABLE}
      task: shop.${TASK}
      initialization: {urls: ["${URL}", "${KNOWN}", "$${KNOWN}"]}
    publishes_events:
      - name: payment.done
        delivery_mode: ${MODE:-fast}
        schema:
          properties:
            card: {pattern: "^${PREFIX}[0-9]{3}$"}
"""
VARIABLES = {"FLOW": "flow", "STEP": "pay", "CALLABLE": "A::B", "TASK": "pay", "PREFIX": "DE", "KNOWN": "yes"}


def test_variables_are_expanded_in_every_string_value(write_template: Write) -> None:
    [template], problems, _ = load_templates([str(write_template(EXPANDED))], variables=VARIABLES)

    assert problems == []
    assert (template.name, template.namespace) == ("flow", "payments")
    [step] = template.steps
    assert (step.name, step.callable, step.task) == ("pay", "A::B", "shop.pay")
    [event] = step.events
    assert event.declaration.delivery_mode is DeliveryMode.FAST
    assert event.declaration.schema == {"properties": {"card": {"pattern": "^DE[0-9]{3}$"}}}
    assert [declared.declaration.name for declared in template.events] == ["flow.flagged"]


def test_an_unset_variable_where_only_an_orchestrator_looks_is_kept_as_it_is(write_template: Write) -> None:
    [template], problems, warnings = load_templates([str(write_template(EXPANDED))], variables=VARIABLES)

    assert (problems, warnings) == ([], [])
    assert template.description == "By ${TEAM}."
    assert template.steps[0].definition["handler"]["initialization"] == {"urls": ["${URL}", "yes", "${KNOWN}"]}


@pytest.mark.parametrize(
    ("variable", "line", "field"),
    [("FLOW", 1, "name"), ("STEP", 7, "name"), ("CALLABLE", 9, "callable"), ("TASK", 10, "task"), ("PREFIX", 17, "pattern")],
)
def test_an_unset_variable_where_it_matters_is_the_one_error_of_its_line(
    write_template: Write, variable: str, line: int, field: str
) -> None:
    variables = {name: value for name, value in VARIABLES.items() if name != variable}

    templates, [problem], _ = load_templates([str(write_template(EXPANDED))], variables=variables)

    assert templates == []
    assert problem.line == line
    assert problem.message.startswith(f"{field}: environment variable {variable} is not set. Set it, or give a default: ")


def test_a_reference_that_is_kept_is_not_also_told_to_be_a_bad_value(write_template: Write) -> None:
    path = write_template("name: x\nnamespace_name: ${NO}\ndomain_events:\n  - {name: a.b, condition: '${NO}'}\n  - {name: c}\n")

    _, problems, _ = load_templates([str(path)], variables={})

    assert [(problem.line, problem.message.partition(" ")[0]) for problem in problems] == [
        (2, "namespace_name:"),
        (4, "condition:"),
        (5, "bad"),
    ]


def test_an_expanded_value_is_checked_like_any_other(write_template: Write) -> None:
    variables = {**VARIABLES, "NS": "Pay-ments", "MODE": "fsat", "WHAT": "Odd"}

    _, problems, _ = load_templates([str(write_template(EXPANDED))], variables=variables)

    assert [problem.line for problem in problems] == [2, 14, 5]


def test_a_value_stays_a_string_whatever_it_looks_like(write_template: Write) -> None:
    text = EXPANDED.replace("delivery_mode: ${MODE:-fast}", "confirm: ${CONFIRM:-true}")

    _, [problem], _ = load_templates([str(write_template(text))], variables=VARIABLES)

    assert (problem.line, problem.message) == (14, "confirm must be true or false, not 'true'")


def test_variables_come_from_the_process_environment(write_template: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPLATE_TEST_NAME", "from_env")

    [template], *_ = load_templates([str(write_template("name: ${TEMPLATE_TEST_NAME}\nnamespace_name: y\n"))])

    assert template.name == "from_env"


# Environments


OVERRIDDEN = """\
name: checkout
namespace_name: payments
steps:
  - name: pay
    handler: {task: shop.pay, initialization: {url: "${LIVE_URL}"}}
    publishes_events:
      - name: payment.processed
environments:
  test:
    steps:
      - name: pay
        handler: {task: shop.fake_pay}
        publishes_events:
          - name: payment.pretended
            delivery_mode: fast
  broken:
    steps:
      - name: pay
        publishes_events:
          - name: payment.pretended
            delivery_mode: fsat
"""


def test_the_environments_overrides_count_and_no_others(write_template: Write) -> None:
    path = str(write_template(OVERRIDDEN))

    [plain], *_ = load_templates([path])
    [tested], *_ = load_templates([path], "test")
    [other], *_ = load_templates([path], "production")

    assert plain == other
    assert plain.steps[0].task == "shop.pay"
    assert tested.steps[0].task == "shop.fake_pay"
    assert [event.declaration.name for event in tested.steps[0].events] == ["payment.pretended"]
    assert tested.steps[0].definition["handler"]["initialization"] == {"url": "${LIVE_URL}"}


def test_a_mistake_in_an_override_is_told_with_the_overrides_line(write_template: Write) -> None:
    templates, [problem], _ = load_templates([str(write_template(OVERRIDDEN))], "broken")

    assert templates == []
    assert (problem.line, problem.message) == (21, "unknown delivery_mode 'fsat'. Did you mean 'fast'?")


def test_a_variable_that_an_override_replaces_need_not_be_set(write_template: Write) -> None:
    path = str(write_template(OVERRIDDEN.replace("task: shop.pay,", "task: '${LIVE_TASK}',")))

    assert load_templates([path], "test", {}).problems == []
    [problem] = load_templates([path], None, {}).problems
    assert problem.line == 5


@pytest.mark.parametrize(
    ("wrong", "line", "message"),
    [
        ("environments: [test]", 2, "environments must be a mapping, not ['test']"),
        ("environments: {test: x}", 2, "environment 'test' must be a mapping, not 'x'"),
        ("environments: {test: {steps: {}}}", 2, "steps of an environment must be a list, not {}"),
        ("environments: {test: {task_handler: x}}", 2, "task_handler must be a mapping, not 'x'"),
        ("environments:\n  test:\n    steps:\n      - pay", 5, "an override is a mapping with the 'name' of a step, or ALL"),
        ("environments:\n  test:\n    steps:\n      - retry:", 5, "an override is a mapping with the 'name' of a step, or ALL"),
    ],
)
def test_a_malformed_override_is_an_error_in_its_environment(write_template: Write, wrong: str, line: int, message: str) -> None:
    path = str(write_template(f"name: x\n{wrong}\nnamespace_name: y\nsteps: [{{name: pay}}]\n"))

    templates, [problem], _ = load_templates([path], "test")

    assert templates == []
    assert problem.line == line
    assert problem.message.startswith(message)
    assert load_templates([path]).problems == []


def test_what_nothing_knows_in_any_environment_is_a_warning_with_its_line(write_template: Write) -> None:
    text = OVERRIDDEN.replace("      - name: pay\n        handler:", "      - name: pey\n        handlr:").replace(
        "broken:\n", "broken:\n    stps:\n"
    )

    templates, problems, warnings = load_templates([str(write_template(text))])

    assert (len(templates), problems) == (1, [])
    assert [(warning.line, warning.message) for warning in warnings] == [
        (12, "unknown field 'handlr' in a step. Did you mean 'handler'?"),
        (11, "override for step 'pey', which the template does not have. Did you mean 'pay'?"),
        (17, "unknown field 'stps' in an environment. Did you mean 'steps'?"),
    ]


# Limits


def _load(write_template: Write, text: str, environment: str | None = None, **variables: str) -> tuple[int, list[str]]:
    templates, problems, _ = load_templates([str(write_template(text))], environment, variables)
    return len(templates), [problem.message for problem in problems]


def test_what_comes_out_of_variables_is_bounded_for_the_whole_file(write_template: Write) -> None:
    head = "name: x\nnamespace_name: y\nmetadata:\n"

    assert _load(write_template, head + "  - ${BIG}\n" * 10, BIG="x" * 100_000) == (1, [])
    assert _load(write_template, head + "  - ${BIG}\n" * 11, BIG="x" * 100_000) == (
        0,
        ["more than 1048576 characters once variables are expanded"],
    )
    assert _load(write_template, f"{head}  - {'${BIG}' * 100_000}\n", BIG="x" * 100_000)[0] == 0


def test_what_an_override_for_all_steps_makes_is_bounded(write_template: Write) -> None:
    steps = "".join(f"  - {{name: s{number}}}\n" for number in range(1000))
    many = ", ".join(f"k{number}: 1" for number in range(1000))
    override = f"environments:\n  test:\n    steps:\n      - name: ALL\n        handler: {{initialization: {{{many}}}}}\n"
    text = f"name: x\nnamespace_name: y\nsteps:\n{steps}{override}"

    assert _load(write_template, text) == (1, [])
    assert _load(write_template, text, "test") == (0, ["more than 100000 values once overrides are applied"])


def test_overrides_that_are_many_are_bounded(write_template: Write) -> None:
    steps = "".join(f"  - {{name: s{number}}}\n" for number in range(1000))
    overrides = "      - {name: ALL, timeout_seconds: 1}\n" * 1000

    text = f"name: x\nnamespace_name: y\nsteps:\n{steps}environments:\n  test:\n    steps:\n{overrides}"

    assert _load(write_template, text, "test") == (0, ["more than 100000 values once overrides are applied"])


def test_no_more_than_a_hundred_warnings_and_problems_of_a_file_are_told(write_template: Write) -> None:
    unknown = "".join(f"odd_{number}: 1\n" for number in range(5000))
    steps = "".join(f"  - {number}\n" for number in range(5000))

    _, problems, warnings = load_templates([str(write_template(f"{unknown}steps:\n{steps}"))])

    assert (len(problems), len(warnings)) == (101, 101)
    assert "the others are not told" in problems[-1].message
    assert "the others are not told" in warnings[-1].message
