"""What is sent as one workflow: in a block, or as the canvas of a template."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from celery import current_task

from celery_tasker_events.catalog import Catalog
from celery_tasker_events.errors import did_you_mean
from celery_tasker_events.propagation import sending
from celery_tasker_events.telemetry.log import logger

if TYPE_CHECKING:
    from celery import Celery, Signature

__all__ = ["SendsWorkflows", "import_canvas"]


def import_canvas() -> ModuleType:
    """Import what only apps with templates need: in a worker before it forks, so that no task waits for it."""
    from celery_tasker_events import canvas

    return canvas


class SendsWorkflows(ABC):
    """The part of :class:`~celery_tasker_events.DomainEvents` that says which tasks belong together."""

    app: Celery

    @property
    @abstractmethod
    def catalog(self) -> Catalog: ...

    @abstractmethod
    def _heed_starts(self) -> None: ...

    @contextlib.contextmanager
    def workflow(self, name: str, *, correlation_id: str | None = None) -> Iterator[None]:
        """Tell every task that is sent inside the ``with`` block, and all that those send, which template it belongs to.

        Args:
            name: ``namespace/name`` of a task template, such as ``"payments/credit_card_payment"``.
            correlation_id: As for :meth:`correlation`.
        """
        known = self.catalog.workflows()
        if known and name not in known:
            logger.warning("No task template is named %r.%s", name, did_you_mean(name, known))
        self._heed_starts_inside_of_a_task()
        with sending(workflow=name, correlation_id=correlation_id):
            yield

    def canvas(
        self,
        workflow: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        steps: Mapping[str, Mapping[str, Any]] | None = None,
        version: str | None = None,
        correlation_id: str | None = None,
    ) -> Signature:
        """Build the Celery canvas that a template's ``dependencies`` describe; send it with ``apply_async``, once.

        A step that depends on another one gets its result as first argument, one that depends on several a list of theirs in
        the order of its ``dependencies``. The events of all steps have one ``task_uuid``, one correlation id and this workflow.

        Args:
            workflow: ``namespace/name`` of a task template, such as ``"payments/credit_card_payment"``.
            args: Arguments of each step that depends on none.
            kwargs: Keyword arguments of these.
            steps: What is particular to a step, by its name: its own ``args`` and ``kwargs``, after the results that it gets,
                ``immutable`` (it gets none), and execution options such as ``queue``, ``priority`` or ``countdown``.
            version: Refuse the template if it has another one.
            correlation_id: By default that of the block or the step in which this is called, else the new ``task_uuid``.

        Returns:
            A signature of Celery's, which is a task, chain, group or chord.

        Raises:
            ConfigurationError: if there is no such template, a step is no Celery task, or its dependencies are no canvas: they
                go round in a circle, or are such as chains, groups and chords can't say.
        """
        canvas = import_canvas()
        template = canvas.find_template(self.catalog.templates, workflow, version)
        return canvas.build_canvas(self.app, template, args, kwargs or {}, steps or {}, correlation_id)

    @contextlib.contextmanager
    def correlation(self, correlation_id: str) -> Iterator[None]:
        """Give every task that is sent inside the ``with`` block, and all that those send, this correlation id."""
        self._heed_starts_inside_of_a_task()
        with sending(correlation_id=correlation_id):
            yield

    def _heed_starts_inside_of_a_task(self) -> None:
        # A step that runs eagerly in the block gets at its start what the block gives, and at its end it would be another one's.
        if current_task:
            self._heed_starts()
