"""``retry`` and ``timeout_seconds`` of templates as options of Celery tasks: which apply, to what, and when they do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, Task, shared_task

from celery_tasker_events import ConfigurationError, DomainEvents, publishes_events

from .conftest import NewShop

TEMPLATE = "name: checkout\nnamespace_name: payments\nsteps:\n"

EVERY_END = [
    {"name": f"step.{condition}", "condition": condition, "delivery_mode": "fast"}
    for condition in ("success", "retryable_failure", "permanent_failure")
]

OPTIONS = (
    "max_retries",
    "autoretry_for",
    "retry_backoff",
    "retry_backoff_max",
    "retry_jitter",
    "retry_kwargs",
    "soft_time_limit",
    "time_limit",
)

NewTemplate = Callable[..., Path]
TemplateShop = Callable[..., tuple[Celery, DomainEvents]]


def step(fields: str, name: str = "pay") -> str:
    return f"  - {{name: {name}, {fields}}}\n"


def options_of(task: Task) -> dict[str, Any]:
    return {option: value for option in OPTIONS if (value := getattr(task, option, None)) is not None}


@pytest.fixture
def template_shop(new_shop: NewShop, write_template: NewTemplate) -> TemplateShop:
    """Makes an app with one template of these steps, whose options count."""

    def create(*steps: str, **conf: Any) -> tuple[Celery, DomainEvents]:
        path = write_template(TEMPLATE + "".join(steps))
        return new_shop(tasker_events_templates=[str(path)], tasker_events_apply_step_options=True, **conf)

    return create


def pay() -> str:
    return "paid"


def pay_task(app: Celery, **options: Any) -> Task:
    return app.task(name="pay", shared=False, **options)(pay)


CELERYS_OWN = {"max_retries": 3}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("retry: {retryable: false, limit: 5}", {"max_retries": 0}),
        (
            "retry: {limit: 4}",
            {
                "max_retries": 3,
                "autoretry_for": (Exception,),
                "retry_backoff": 1,
                "retry_backoff_max": 30,
                "retry_jitter": True,
            },
        ),
        (
            "retry: {max_attempts: 2, backoff: exponential, backoff_base_ms: 2500, max_backoff_ms: 60000, jitter: false}",
            {
                "max_retries": 1,
                "autoretry_for": (Exception,),
                "retry_backoff": 3,
                "retry_backoff_max": 60,
                "retry_jitter": False,
            },
        ),
        (
            "retry: {limit: 1, backoff: none}",
            {"max_retries": 0, "autoretry_for": (Exception,), "retry_kwargs": {"countdown": 0}},
        ),
        ("timeout_seconds: 120", {**CELERYS_OWN, "soft_time_limit": 120, "time_limit": 125}),
        ("description: nothing of it", CELERYS_OWN),
    ],
)
def test_fields_of_a_step_are_options_of_its_task(template_shop: TemplateShop, fields: str, expected: dict[str, Any]) -> None:
    app, events = template_shop(step(fields))

    task = pay_task(app)
    app.finalize()

    assert options_of(task) == expected
    assert (events.catalog.problems, events.catalog.warnings) == ([], [])


def test_they_are_left_alone_unless_asked_for(new_shop: NewShop, write_template: NewTemplate) -> None:
    path = write_template(TEMPLATE + step("retry: {limit: 9}, timeout_seconds: 1"))
    app, _ = new_shop(tasker_events_templates=[str(path)])

    task = pay_task(app)
    app.finalize()

    assert options_of(task) == CELERYS_OWN


class ClassBased(Task):
    name = "pay"

    def run(self) -> str:
        return "paid"


class WithBase(Task): ...


@pytest.mark.parametrize(
    "define",
    [
        pay_task,
        lambda app: app.task(name="pay", shared=False, base=WithBase)(pay),
        lambda app: app.register_task(type("Pay", (ClassBased,), {})()),
        lambda _: shared_task(name="pay")(pay),
    ],
    ids=["app.task", "app.task with a base", "class-based", "shared_task"],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_every_kind_of_task_has_them_whenever_it_is_defined(
    template_shop: TemplateShop, define: Callable[[Celery], Any], when: str
) -> None:
    app, _ = template_shop(step("retry: {limit: 8}, timeout_seconds: 7"))
    app.set_current()
    if when == "after":
        app.finalize()

    define(app)

    task = app.tasks["pay"]
    assert (task.max_retries, task.autoretry_for, task.soft_time_limit, task.time_limit) == (7, (Exception,), 7, 12)
    assert task._orig_run() == "paid"


def test_a_plugin_that_comes_after_the_app_was_finalized_applies_them_too(write_template: NewTemplate) -> None:
    app = Celery("late", broker="memory://", set_as_current=False)
    path = write_template(TEMPLATE + step("retry: {limit: 8}"))
    app.conf.update(tasker_events_templates=[str(path)], tasker_events_apply_step_options=True)
    task = pay_task(app)
    app.finalize()

    DomainEvents(app)

    assert task.max_retries == 7


@pytest.mark.parametrize(("configured", "expected"), [({}, 7), ({"tasker_events_apply_step_options": False}, 3)])
def test_the_plugin_can_be_told_where_it_is_made_and_the_configuration_wins(
    write_template: NewTemplate, configured: dict[str, bool], expected: int
) -> None:
    app = Celery("told", broker="memory://", set_as_current=False)
    DomainEvents(app, apply_step_options=True)
    app.conf.update(tasker_events_templates=[str(write_template(TEMPLATE + step("retry: {limit: 8}")))], **configured)
    task = pay_task(app)

    app.finalize()

    assert task.max_retries == expected


RETRY = "retry: {limit: 8, backoff_base_ms: 2000}"


@pytest.mark.parametrize(
    ("fields", "own", "expected", "told"),
    [
        (RETRY, {"max_retries": 5}, {"max_retries": 5, "retry_backoff": 2}, ["max_retries=5"]),
        (RETRY, {"max_retries": None}, {"max_retries": None}, ["max_retries=None"]),
        (RETRY, {"retry_kwargs": {"max_retries": 1}}, {"max_retries": 3}, ["retry_kwargs={'max_retries': 1}"]),
        (RETRY, {"autoretry_for": ()}, {"autoretry_for": (), "max_retries": 7}, ["autoretry_for=()"]),
        (RETRY, {"autoretry_for": (KeyError,)}, {"autoretry_for": (KeyError,), "retry_backoff": 2}, ["autoretry_for="]),
        (RETRY, {"default_retry_delay": 9}, {"max_retries": 7, "retry_backoff": None}, ["default_retry_delay=9"]),
        (RETRY, {"retry_backoff": 4}, {"retry_backoff": 4, "retry_backoff_max": None}, ["retry_backoff=4"]),
        ("timeout_seconds: 60", {"soft_time_limit": 3}, {"soft_time_limit": 3, "time_limit": None}, ["soft_time_limit=3"]),
        ("timeout_seconds: 60", {"time_limit": 3}, {"soft_time_limit": None, "time_limit": 3}, ["time_limit=3"]),
        ("retry: {limit: 8}", {"max_retries": 7}, {"max_retries": 7}, []),
    ],
)
def test_what_a_task_states_itself_wins_and_is_told(
    template_shop: TemplateShop, fields: str, own: dict[str, Any], expected: dict[str, Any], told: list[str]
) -> None:
    app, events = template_shop(step(fields))

    task = pay_task(app, **own)
    app.finalize()

    assert {option: getattr(task, option, None) for option in expected} == expected
    warnings = [str(warning) for warning in events.catalog.warnings]
    assert len(warnings) == len(told)
    assert all(f"states {words}" in warning for words, warning in zip(told, warnings, strict=True)), warnings


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_apps_time_limits_give_way_and_the_users_annotations_win(template_shop: TemplateShop, when: str) -> None:
    app, events = template_shop(
        step(f"{RETRY}, timeout_seconds: 7"),
        task_time_limit=300,
        task_soft_time_limit=200,
        task_annotations={"pay": {"max_retries": 1}},
    )
    if when == "after":
        app.finalize()

    task = pay_task(app)
    app.finalize()

    assert (task.soft_time_limit, task.time_limit, task.max_retries) == (7, 12, 1)
    assert ["states max_retries=1 itself" in str(warning) for warning in events.catalog.warnings] == [True]


def test_options_given_to_register_task_are_the_tasks_own(template_shop: TemplateShop) -> None:
    app, events = template_shop(step("retry: {limit: 8}"))

    class Pay(ClassBased):
        def run(self) -> str:
            raise KeyError("gone")

    task = app.register_task(Pay(), autoretry_for=(OSError,))

    assert task.max_retries == 7
    assert task.apply().state == "FAILURE"
    assert "register_task" in str(events.catalog.warnings[0])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("timeout_seconds: soon", "template.yaml:4: timeout_seconds must be a whole number of seconds from 1, not 'soon'"),
        ("timeout_seconds: 0", "timeout_seconds must be"),
        ("retry: 3", "retry must be a mapping"),
        ("retry: {limit: 0}", "limit must be a whole number from 1, not 0"),
        ("retry: {limit: true}", "limit must be a whole number from 1, not True"),
        ("retry: {retryable: 'no'}", "retryable must be true or false"),
        ("retry: {backoff: linear}", "backoff must be one of exponential, none, which Celery has, not 'linear'"),
        ("retry: {limit: 3, max_attempts: 4}", "limit and max_attempts mean the same, and differ"),
        ("retry: {limits: 3}", "unknown field 'limits' in retry. Did you mean 'limit'?"),
    ],
)
def test_a_field_that_is_wrong_keeps_a_worker_from_starting(template_shop: TemplateShop, fields: str, told: str) -> None:
    app, events = template_shop(step(fields))
    pay_task(app)

    with pytest.raises(ConfigurationError) as caught:
        events.check_worker()

    assert told in str(caught.value)


def test_steps_that_want_different_things_of_one_task_keep_a_worker_from_starting(
    template_shop: TemplateShop, write_template: NewTemplate
) -> None:
    app, events = template_shop(step("retry: {limit: 3}"), step("timeout_seconds: 5, handler: {task: pay}", "same"))
    other = write_template(
        TEMPLATE.replace("checkout", "refund") + step("retry: {limit: 4}, handler: {task: pay}", "give_back"), "other.yaml"
    )
    app.conf.tasker_events_templates = [*app.conf.tasker_events_templates, str(other)]
    pay_task(app)

    with pytest.raises(ConfigurationError) as caught:
        events.check_worker()

    (problem,) = caught.value.problems
    assert "step 'give_back' and step 'pay'" in problem.message
    assert "are both task pay, and their retry or timeout_seconds differ" in problem.message


def test_a_step_with_options_that_is_no_task_keeps_a_worker_from_starting(template_shop: TemplateShop) -> None:
    app, events = template_shop(step("retry: {limit: 3}", "ship"))
    pay_task(app)

    with pytest.raises(ConfigurationError, match="step 'ship' names no Celery task"):
        events.check_worker()


@pytest.mark.parametrize(
    ("fields", "ends"),
    [
        ("retry: {limit: 3}", ["retryable_failure", "retryable_failure", "permanent_failure"]),
        ("retry: {retryable: false}", ["permanent_failure"]),
    ],
)
@pytest.mark.parametrize("bind", [True, False])
def test_an_eager_step_is_retried_and_tells_of_every_attempt(
    template_shop: TemplateShop, fields: str, ends: list[str], *, bind: bool
) -> None:
    app, events = template_shop(step(fields))
    heard: list[str] = []
    events.subscribe("*")(lambda event: heard.append(event.event_name.removeprefix("step.")))

    def fail(*_: object) -> None:
        raise KeyError("gone")

    app.task(name="pay", shared=False, bind=bind)(publishes_events(EVERY_END)(fail)).apply()

    assert events.drain(30)
    assert heard == ends


def test_a_task_that_is_called_like_a_function_is_not_retried(template_shop: TemplateShop) -> None:
    app, _ = template_shop(step("retry: {limit: 3}"))
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise KeyError("gone")

    task = app.task(name="pay", shared=False)(fail)
    app.finalize()

    with pytest.raises(KeyError):
        task()
    assert calls == [1]


def test_the_time_limits_go_with_the_message_of_a_caller(template_shop: TemplateShop) -> None:
    app, _ = template_shop(step("timeout_seconds: 7"))
    task = pay_task(app)
    task.delay()

    with app.connection_for_read() as connection:
        message = connection.SimpleQueue("celery").get(timeout=5)

    assert message.headers["timelimit"] == [12, 7]
