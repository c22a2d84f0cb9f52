"""``check`` tells what is wrong with task templates, by itself or with the app that they are for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from celery_tasker_events import BasePublisher, DomainEvents, publishes_events

GOOD = """\
name: checkout
namespace_name: payments
version: 1.0.0
domain_events:
  - name: checkout.flagged
steps:
  - name: pay
    publishes_events:
      - name: payment.processed
        delivery_mode: broadcast
        version: "2.0"
      - {name: payment.failed, condition: failure, delivery_mode: fast}
"""


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def lines(output: str) -> list[str]:
    return output.rstrip("\n").split("\n")


@pytest.fixture
def checkout(shop: tuple[Celery, DomainEvents]) -> Celery:
    """An app with the task of the good template."""
    app, _ = shop

    @app.task(name="shop.pay")
    @publishes_events("payment.seen", delivery_mode="fast", namespace="audit")
    def pay() -> None: ...

    return app


# Without an app


def test_a_good_template_is_only_counted(run_alone: Any, write_template: Any) -> None:
    write_template(GOOD, "good.yaml")

    result = run_alone("check", "good.yaml")

    assert (result.exit_code, result.output) == (0, "1 template, 1 step, 3 events: 0 errors, 0 warnings\n")


def test_each_problem_is_one_line_with_file_and_line_in_their_order(run_alone: Any, write_template: Any) -> None:
    write_template(GOOD.replace("delivery_mode: fast", "delivery_mode: fsat").replace("version: 1.0.0", "verison: 1"), "b.yaml")
    write_template("name: [", "a.yaml")

    result = run_alone("check", "*.yaml")

    assert result.exit_code == 1
    assert lines(result.output) == [
        "a.yaml:1: not YAML: expected the node content, but found '<stream end>'",
        "b.yaml:3: warning: unknown field 'verison' in a task template. Did you mean 'version'?",
        "b.yaml:12: unknown delivery_mode 'fsat'. Did you mean 'fast'?",
        "0 templates, 0 steps, 0 events: 2 errors, 1 warning",
    ]


def test_a_warning_is_an_error_only_when_it_is_strict(run_alone: Any, write_template: Any) -> None:
    write_template(GOOD.replace("version: 1.0.0", "verison: 1"), "x.yaml")
    told = "unknown field 'verison' in a task template. Did you mean 'version'?"

    loose, strict = run_alone("check", "x.yaml"), run_alone("check", "--strict", "x.yaml")

    assert (loose.exit_code, lines(loose.output)[0]) == (0, f"x.yaml:3: warning: {told}")
    assert (strict.exit_code, lines(strict.output)) == (
        1,
        [f"x.yaml:3: {told}", "1 template, 1 step, 3 events: 1 error, 0 warnings"],
    )


def test_a_schema_is_compiled(run_alone: Any, write_template: Any) -> None:
    write_template(GOOD.replace("delivery_mode: broadcast", "schema: {type: objekt}"), "x.yaml")

    result = run_alone("check", "x.yaml")

    assert result.exit_code == 1
    assert lines(result.output)[0].startswith("x.yaml:10: event 'payment.processed': invalid JSON Schema at type: ")


def test_a_publishers_import_path_is_followed_from_the_working_directory(
    run_alone: Any, write_template: Any, tmp_path: Path
) -> None:
    (tmp_path / "checked_publishers.py").write_text("from celery_tasker_events import BasePublisher as Good\nbad = 5\n")
    text = GOOD.replace("delivery_mode: broadcast", "publisher: checked_publishers.NAME")
    for name in ("Good", "bad", "gone"):
        write_template(text.replace("NAME", name).replace("checkout", name.lower()), f"{name.lower()}.yaml")

    result = run_alone("check", "good.yaml", "bad.yaml", "gone.yaml")

    why = "AttributeError: module 'checked_publishers' has no attribute 'gone'"
    assert lines(result.output) == [
        "bad.yaml:10: event 'payment.processed': 5 is no publisher: derive it from celery_tasker_events.BasePublisher",
        f"gone.yaml:10: event 'payment.processed': publisher 'checked_publishers.gone' can't be imported: {why}",
        "3 templates, 3 steps, 9 events: 2 errors, 0 warnings",
    ]


def test_a_publisher_that_only_an_app_knows_is_told_to_be_skipped(run_alone: Any, write_template: Any) -> None:
    write_template(GOOD.replace("delivery_mode: broadcast", "publisher: CardPublisher"), "x.yaml")

    result = run_alone("check", "--strict", "x.yaml")

    assert result.exit_code == 0
    assert lines(result.output)[0] == (
        "x.yaml:10: note: event 'payment.processed': publisher 'CardPublisher' is not looked up without an app"
    )


def test_the_environment_picks_the_overrides(run_alone: Any, write_template: Any) -> None:
    override = "environments: {test: {steps: [{name: pay, publishes_events: [{name: bad}]}]}}\n"
    write_template(GOOD + override, "x.yaml")

    assert run_alone("check", "x.yaml").exit_code == 0
    result = run_alone("check", "--environment", "test", "x.yaml")
    assert result.exit_code == 1
    assert lines(result.output)[0].startswith("x.yaml:13: bad event name 'bad'")


def test_no_file_is_a_usage_error(run_alone: Any) -> None:
    result = run_alone("check")

    assert result.exit_code == 2
    assert "no task template: give files or patterns, such as 'config/tasks/**/*.yaml'" in result.output


def test_a_file_that_is_not_there_is_an_error(run_alone: Any) -> None:
    result = run_alone("check", "gone.yaml")

    assert result.exit_code == 1
    assert lines(result.output)[0].startswith("gone.yaml: no task template matches this pattern (looked from ")


def test_a_file_with_the_characters_of_a_pattern_in_its_name_is_that_file(run_alone: Any, write_template: Any) -> None:
    write_template(GOOD, "pay[1].yaml")

    assert run_alone("check", "pay[1].yaml").exit_code == 0


def test_json_lists_templates_steps_events_and_problems(run_alone: Any, write_template: Any) -> None:
    write_template(GOOD.replace("version: 1.0.0", "verison: 1"), "x.yaml")

    document = json.loads(run_alone("check", "--format", "json", "x.yaml").output)

    assert document["templates"] == [
        {"name": "checkout", "namespace": "payments", "version": "", "description": "", "file": "x.yaml"}
    ]
    assert document["steps"] == [
        {"name": "pay", "template": "payments/checkout", "handler": None, "task": None, "file": "x.yaml", "line": 7}
    ]
    by_hand, processed, failed = document["events"]
    assert processed == {
        "task": None,
        "step": "pay",
        "template": "payments/checkout",
        "event": "payment.processed",
        "condition": "success",
        "delivery_mode": "broadcast",
        "namespace": "payments",
        "queue": "payments_domain_events",
        "publisher": None,
        "version": "2.0",
        "template_version": None,
        "description": "",
        "schema": None,
        "file": "x.yaml",
        "line": 9,
    }
    assert (by_hand["event"], by_hand["step"], by_hand["condition"]) == ("checkout.flagged", None, None)
    assert (failed["condition"], failed["queue"], failed["line"]) == ("failure", None, 12)
    assert document["problems"] == [
        {
            "severity": "warning",
            "file": "x.yaml",
            "line": 3,
            "message": "unknown field 'verison' in a task template. Did you mean 'version'?",
        }
    ]
    assert document["summary"] == {"templates": 1, "steps": 1, "events": 3, "errors": 0, "warnings": 1}


# With an app


def test_the_apps_own_templates_are_checked_where_no_file_is_given(
    run_celery: Any, write_template: Any, checkout: Celery
) -> None:
    write_template(GOOD.replace("payment.processed", "Bad"), "mine.yaml")
    checkout.conf.tasker_events_templates = ["mine.yaml"]

    result = run_celery(checkout, "check")

    assert result.exit_code == 1
    assert lines(result.output)[0].startswith("mine.yaml:9: bad event name 'Bad'")


def test_given_files_are_checked_in_place_of_the_apps_own(run_celery: Any, write_template: Any, checkout: Celery) -> None:
    write_template("name: [", "mine.yaml")
    write_template(GOOD, "other.yaml")
    checkout.conf.tasker_events_templates = ["mine.yaml"]

    result = run_celery(checkout, "check", "other.yaml")

    # The fourth event is the decorator's.
    assert (result.exit_code, result.output) == (0, "1 template, 1 step, 4 events: 0 errors, 0 warnings\n")


def test_a_step_without_a_task_is_an_error(run_celery: Any, write_template: Any, checkout: Celery) -> None:
    write_template(GOOD.replace("- name: pay\n", "- name: pay\n    handler: {task: shop.pya}\n"), "x.yaml")

    result = run_celery(checkout, "check", "x.yaml")

    assert result.exit_code == 1
    assert lines(result.output)[0] == "x.yaml:7: step 'pay' names no Celery task (shop.pya). Did you mean 'shop.pay'?"


class CardPublisher(BasePublisher): ...


@pytest.mark.parametrize(("name", "code"), [("CardPublisher", 0), ("CradPublisher", 1)])
def test_publishers_that_the_app_registered_are_known(
    run_celery: Any, write_template: Any, checkout: Celery, name: str, code: int
) -> None:
    DomainEvents.of(checkout).register_publisher(CardPublisher)
    write_template(GOOD.replace("delivery_mode: broadcast", f"publisher: {name}"), "x.yaml")

    result = run_celery(checkout, "check", "x.yaml")

    assert result.exit_code == code
    assert ("unknown publisher 'CradPublisher'. Did you mean 'CardPublisher'?" in result.output) is bool(code)


def test_json_names_the_tasks_and_the_events_of_decorators(run_celery: Any, write_template: Any, checkout: Celery) -> None:
    write_template(GOOD, "x.yaml")

    document = json.loads(run_celery(checkout, "check", "--format", "json", "x.yaml").output)

    assert [step["task"] for step in document["steps"]] == ["shop.pay"]
    assert [(event["event"], event["task"], event["file"]) for event in document["events"]] == [
        ("checkout.flagged", None, "x.yaml"),
        ("payment.processed", "shop.pay", "x.yaml"),
        ("payment.failed", "shop.pay", "x.yaml"),
        ("payment.seen", "shop.pay", None),
    ]


@pytest.mark.parametrize("arguments", [(), ("--environment", "test")])
def test_the_environment_is_the_apps_unless_another_is_given(
    run_celery: Any, write_template: Any, checkout: Celery, arguments: tuple[str, ...]
) -> None:
    override = "{{steps: [{{name: pay, publishes_events: [{{name: {}}}]}}]}}"
    write_template(GOOD + f"environments: {{live: {override.format('in.live')}, test: {override.format('in.test')}}}\n", "x.yaml")
    checkout.conf.tasker_events_environment = "live"

    document = json.loads(run_celery(checkout, "check", "--format", "json", *arguments, "x.yaml").output)

    assert document["events"][1]["event"] == ("in.test" if arguments else "in.live")


def test_a_wrong_setting_is_an_error_among_the_others(run_celery: Any, checkout: Celery) -> None:
    checkout.conf.tasker_events_templates = "x.yaml"

    result = run_celery(checkout, "check")

    assert result.exit_code == 1
    assert lines(result.output)[0] == "tasker_events_templates: must be a list of strings, not 'x.yaml'"


def test_an_app_without_the_plugin_is_told_how_to_add_it(run_celery: Callable[..., Any]) -> None:
    result = run_celery(Celery("bare", broker="memory://"), "check")

    assert result.exit_code == 1
    assert "has no domain events: add DomainEvents(app) where the app is made" in result.output


def test_checking_leaves_what_the_app_publishes_as_it_is(
    run_celery: Any, write_template: Any, shop: tuple[Celery, DomainEvents]
) -> None:
    app, events = shop
    app.task(name="shop.pay")(lambda: None)
    write_template(GOOD, "x.yaml")

    run_celery(app, "check", "x.yaml")

    assert list(events.catalog.events()) == []
