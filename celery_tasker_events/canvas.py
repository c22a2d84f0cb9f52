"""The Celery canvas that the dependencies of a template's steps describe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from celery import chain, chord, group
from celery.utils import uuid

from celery_tasker_events.errors import ConfigurationError, Problem, did_you_mean
from celery_tasker_events.propagation import CORRELATION_HEADER, WORKFLOW_HEADER, hand_on
from celery_tasker_events.running import running_step
from celery_tasker_events.step_graph import NoCanvas, Parallel, Plan, arrange
from celery_tasker_events.step_task import ambiguous, task_of, unknown
from celery_tasker_events.template import StepTemplate, TaskTemplate

if TYPE_CHECKING:
    from celery import Celery, Signature

__all__ = ["build_canvas", "find_template"]

#: What the caller may say of one step; all but the first three are options of Celery's apply_async.
STEP_KEYS = frozenset(
    [
        *("args", "kwargs", "immutable"),
        *("queue", "exchange", "routing_key", "priority", "countdown", "eta", "expires"),
        *("serializer", "compression", "soft_time_limit", "time_limit", "ignore_result"),
    ]
)


def build_canvas(
    app: Celery,
    template: TaskTemplate,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    steps: Mapping[str, Mapping[str, Any]],
    correlation_id: str | None,
) -> Signature:
    """Build what :meth:`DomainEvents.canvas` returns.

    Raises:
        ConfigurationError: with all that is wrong with the template's steps or what the caller says of them.
    """
    problems = [*_problems_of(template), *_problems_with(steps, template)]
    tasks: dict[str, str] = {}
    for step in template.steps:
        found = task_of(step, app.tasks)
        if isinstance(found, str):
            tasks[step.name] = found
        else:
            problems.append(unknown(step, app.tasks) if found is None else ambiguous(step, found))
    if problems:
        raise ConfigurationError(problems)
    dependencies = {step.name: _dependencies(step) for step in template.steps}
    try:
        plan = arrange(dependencies)
    except NoCanvas as error:
        raise ConfigurationError([Problem(f"{template.workflow} is no canvas: {error}", template.source)]) from None
    options = _run_of(template.workflow, correlation_id)

    def signature(name: str) -> Signature:
        own = {"args": args, "kwargs": kwargs} if not dependencies[name] else {}
        own |= steps.get(name, {})
        made = app.tasks[tasks[name]].signature(
            tuple(own.pop("args", ())), dict(own.pop("kwargs", {})), immutable=bool(own.pop("immutable", False))
        )
        return made.set(**options, **own)

    return _assemble(plan, signature)


def _dependencies(step: StepTemplate) -> Any:
    given = [step.definition.get(key) for key in ("dependencies", "depends_on")]
    return next((value for value in given if value is not None), [])


def _problems_of(template: TaskTemplate) -> Iterator[Problem]:
    names = [step.name for step in template.steps]
    if not names:
        yield Problem(f"{template.workflow} has no steps", template.source)
    for step in template.steps:
        dependencies = _dependencies(step)
        if not isinstance(dependencies, list) or not all(isinstance(name, str) for name in dependencies):
            message = f"step {step.name!r}: dependencies must be a list of steps' names, not {dependencies!r}"
            yield Problem(message, step.source, step.line)
            continue
        for name in dependencies:
            if name not in names:
                message = f"step {step.name!r} depends on {name!r}, which the template does not have.{did_you_mean(name, names)}"
                yield Problem(message, step.source, step.line)
        if len(set(dependencies)) < len(dependencies):
            yield Problem(f"step {step.name!r} names a dependency twice", step.source, step.line)


def _problems_with(steps: Mapping[str, Mapping[str, Any]], template: TaskTemplate) -> Iterator[Problem]:
    names = [step.name for step in template.steps]
    for name, given in steps.items():
        if name not in names:
            yield Problem(f"{template.workflow} has no step {name!r}.{did_you_mean(name, names)}", "steps")
        for key in given:
            if key not in STEP_KEYS:
                yield Problem(f"unknown key {key!r} for step {name!r}.{did_you_mean(key, STEP_KEYS)}", "steps")


def find_template(templates: Sequence[TaskTemplate], workflow: str, version: str | None) -> TaskTemplate:
    """Find a template by its name, ``namespace/name``.

    Raises:
        ConfigurationError: if there is none, or it has another version.
    """
    by_name = {template.workflow: template for template in templates}
    template = by_name.get(workflow)
    if template is None:
        raise ConfigurationError(
            f"no task template is named {workflow!r}: is its file among tasker_events_templates, and right?"
            f"{did_you_mean(workflow, by_name)}"
        )
    if version is not None and template.version != version:
        own = f"version {template.version!r}" if template.version else "no version"
        raise ConfigurationError([Problem(f"{workflow} has {own}, not {version!r}", template.source)])
    return template


def _run_of(workflow: str, correlation_id: str | None) -> dict[str, Any]:
    """The options that all steps of one run share. Celery alone would give the first ones a root each."""
    flowing: dict[str, Any] = {}
    step = running_step()
    hand_on(flowing, step.request.__dict__ if step else None)
    root_id = uuid()
    correlation_id = correlation_id or flowing.get(CORRELATION_HEADER) or root_id
    return {"root_id": root_id, "headers": {WORKFLOW_HEADER: workflow, CORRELATION_HEADER: correlation_id}}


def _assemble(plan: Plan, signature: Callable[[str], Signature]) -> Signature:
    if isinstance(plan, str):
        return signature(plan)
    if isinstance(plan, Parallel):
        return group([_assemble(part, signature) for part in plan.parts])
    *before, last = plan.parts
    canvas = _assemble(last, signature)
    for part in reversed(before):
        made = _assemble(part, signature)
        canvas = chord(made, canvas) if isinstance(part, Parallel) else chain(made, canvas)
    return canvas
