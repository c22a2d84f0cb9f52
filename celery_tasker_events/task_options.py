"""``retry`` and ``timeout_seconds`` of templates' steps, applied to the Celery tasks that they are: if the user asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from celery.app.annotations import prepare, resolve_all
from celery.app.autoretry import add_autoretry_behaviour
from celery.app.task import Task

from celery_tasker_events.errors import ConfigurationError, Problem
from celery_tasker_events.settings import PREFIX, Settings
from celery_tasker_events.step_task import ambiguous, task_of, unknown
from celery_tasker_events.telemetry.log import logger

if TYPE_CHECKING:
    from celery import Celery

    from celery_tasker_events.step_options import StepOptions
    from celery_tasker_events.template import StepTemplate, TaskTemplate

__all__ = ["TaskOptions", "heed_step_options"]

#: What an automatic retry waits for.
_DELAYING = ("retry_backoff", "retry_backoff_max", "retry_jitter", "retry_kwargs")

_LIMITS = ("soft_time_limit", "time_limit")

#: Attribute of a task: what it stated before anything was applied.
_STATED = "_tasker_events_stated"


class _Statement(NamedTuple):
    value: Any
    words: str


class _Wanted(NamedTuple):
    step: StepTemplate
    options: StepOptions


def _conflict(task_name: str, wanted: _Wanted, other: _Wanted) -> Problem:
    message = (
        f"step {wanted.step.name!r} and step {other.step.name!r} ({other.step.source}:{other.step.line}) are both task"
        f" {task_name}, and their retry or timeout_seconds differ: say the same in both, or give each step a task of its own"
    )
    return Problem(message, wanted.step.source, wanted.step.line)


class TaskOptions:
    """What templates want of an app's tasks.

    Args:
        tasks: The app's tasks by name, which may become more.

    Attributes:
        problems: Fields that are wrong, and steps that want different things of one task.
        unbound: Steps with options whose task this process does not know.
    """

    def __init__(self, tasks: Mapping[str, Any], templates: Iterable[TaskTemplate]) -> None:
        # Imported here, and further below: few apps want any of this.
        from celery_tasker_events.step_options import options_of

        self._tasks = tasks
        self._wanted: dict[str, list[_Wanted]] = {}
        self._waiting: list[_Wanted] = []
        self.problems: list[Problem] = []
        for template in templates:
            for step in template.steps:
                options, problems = options_of(step)
                self.problems += problems
                if options.all():
                    self._bind(_Wanted(step, options))
        self.unbound = [unknown(wanted.step, tasks) for wanted in self._waiting]

    def warnings(self) -> Iterator[Problem]:
        """Tell of all that a task states otherwise itself, and that is therefore not applied."""
        for name, wanted in self._wanted.items():
            stated = _stated(self._tasks[name])
            for step, options in wanted:
                overruled: dict[str, list[str]] = {}
                for option, value in options.all().items():
                    if option in stated and stated[option].value != value:
                        overruled.setdefault(stated[option].words, []).append(f"{option}={value!r}")
                for words, theirs in overruled.items():
                    message = f"step {step.name!r}: task {name} states {words} itself, so {', '.join(theirs)} is not applied"
                    yield Problem(message, step.source, step.line)

    def apply(self) -> None:
        """Apply them to the tasks that are known by now."""
        for name in self._wanted:
            self._apply(name)

    def apply_late(self, task: Task) -> None:
        """Apply them to a task that has just been defined."""
        known = len(self.problems)
        waiting, self._waiting = self._waiting, []
        for wanted in waiting:
            self._bind(wanted)
        for problem in self.problems[known:]:
            logger.warning("%s", problem)
        if task.name in self._wanted:
            self._apply(task.name)

    def _bind(self, wanted: _Wanted) -> None:
        found = task_of(wanted.step, self._tasks)
        if found is None:
            self._waiting.append(wanted)
        elif isinstance(found, list):
            # A step that has events is told by who binds these.
            if not wanted.step.events:
                self.problems.append(ambiguous(wanted.step, found))
        else:
            others = self._wanted.setdefault(found, [])
            self.problems += (_conflict(found, wanted, other) for other in others if wanted.options.differs_from(other.options))
            others.append(wanted)

    def _apply(self, name: str) -> None:
        task = self._tasks[name]
        stated = _stated(task)
        for _, options in self._wanted[name]:
            values = {option: value for option, value in options.all().items() if option not in stated}
            vars(task).update(values)
            # The options that a caller sends along are kept from the first call on.
            task._exec_options = None
            if options.retry.keys() & values.keys():
                _retry_anew(task)


def heed_step_options(app: Celery) -> None:
    """Apply the options to all of the app's tasks, whenever they are defined, if its settings want that."""
    annotations = _Annotations(app)
    # What the app hands to each of its tasks when this is bound; a setting of the user's is among it.
    app.annotations = annotations
    app.on_after_finalize.connect(annotations.on_finalized)
    if app.finalized:
        annotations.on_finalized()


class _Annotations:
    """Celery's own means to set options of tasks from outside, and what the user's settings say with it."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._options: TaskOptions | None = None
        self._read: tuple[object, TaskOptions] | None = None

    def __iter__(self) -> Iterator[Any]:
        return iter([self, *prepare(self._app.conf.task_annotations)])

    def annotate(self, task_class: type[Task]) -> None:
        """What Celery calls when a task is bound."""
        if self._options is None and self._app.finalized:
            return  # it is being finalized: all of its tasks have their turn in the end, when all are known
        options = self._options or self._options_now()
        if options is not None:
            # What the user's own annotations say is stated, too, and Celery would only set it after this.
            for values in resolve_all(prepare(self._app.conf.task_annotations), task_class):
                for option, value in values.items():
                    if not option.startswith("@"):
                        setattr(task_class, option, value)
            options.apply_late(self._app._tasks[task_class.name])

    def on_finalized(self, **_: Any) -> None:
        # Without the plugin's lock, and nothing that others wait for: Celery holds a lock of its own here.
        self._read = None
        self._options = self._options_now()
        if self._options is not None:
            self._options.apply()

    def _options_now(self) -> TaskOptions | None:
        """What the settings want as they are now: before the app is finalized, they may still change."""
        conf = self._app.conf
        if not conf.get(f"{PREFIX}apply_step_options"):
            return None
        try:
            settings = Settings.from_conf(conf, self._app.namespace or "")
        except ConfigurationError:  # told where the worker starts, as all that is wrong with the options is
            return None
        from celery_tasker_events.template import load_templates

        if self._read is None or self._read[0] != (settings.templates, settings.environment):
            templates = load_templates(settings.templates, settings.environment).templates
            self._read = (settings.templates, settings.environment), TaskOptions(self._app._tasks, templates)
        return self._read[1]


def _retry_anew(task: Task) -> None:
    """Have Celery wrap ``run`` with the options as they are now: it reads them when it wraps, which it does once."""
    if hasattr(task, "_orig_run"):
        task.run = task._orig_run
        del task._orig_run
    add_autoretry_behaviour(task)


def _stated(task: Task) -> Mapping[str, _Statement]:
    """What the task states itself: in its decorator, its class, or an annotation of the user's."""
    # Once, as what the plugin applies looks the same afterwards.
    if _STATED not in vars(task):
        setattr(task, _STATED, dict(_look_up_stated(task)))
    stated: Mapping[str, _Statement] = getattr(task, _STATED)
    return stated


def _look_up_stated(task: Task) -> Iterator[tuple[str, _Statement]]:
    classes = [vars(kind) for kind in type(task).__mro__ if kind is not Task]
    own = {option: next(values[option] for values in classes if option in values) for option in set().union(*classes)}

    def words(*options: str) -> str:
        return ", ".join(f"{option}={own[option]!r}" for option in options if own.get(option) is not None)

    for option in ("max_retries", "autoretry_for", *_DELAYING):
        if option in own:
            yield option, _Statement(own[option], f"{option}={own[option]!r}")
    retry_kwargs = own.get("retry_kwargs") or {}
    if "max_retries" in retry_kwargs:
        yield "max_retries", _Statement(retry_kwargs["max_retries"], words("retry_kwargs"))
    if "countdown" in retry_kwargs or own.get("retry_backoff") or own.get("default_retry_delay") is not None:
        for option in _DELAYING:
            yield option, _Statement(own.get(option), words("default_retry_delay", *_DELAYING))
    # Celery gives a task the app's limits where it has none of its own.
    if any(own.get(limit) not in (None, task.app.conf.get(f"task_{limit}")) for limit in _LIMITS):
        for limit in _LIMITS:
            yield limit, _Statement(own.get(limit), words(*_LIMITS))
    # Options that were given to register_task are with what it wrapped, and nowhere else.
    if hasattr(task, "_orig_run") and not own.get("autoretry_for"):
        for option in ("autoretry_for", *_DELAYING):
            yield option, _Statement(None, "options in register_task")
