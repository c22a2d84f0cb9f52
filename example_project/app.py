"""The shop's Celery app and its domain events, configured by environment variables only.

===================  ====================================================================================================
SHOP_DSN             Postgres with PGMQ, for durable events: ``postgresql://user@host/database``
SHOP_BROKER_URL      Celery's broker: ``amqp://...``, ``redis://...``, or ``filesystem:///folder``, which needs no server
SHOP_RESULT_BACKEND  Celery's result backend: ``rpc://``, ``redis://...``, or ``file:///folder``
SHOP_COUNTS_FILE     where the metrics subscriber notes what it counted
SHOP_SPOOL_DIR       where durable events wait while Postgres can't take them; by default in the user's state folder
SHOP_QUEUE           the Celery queue, by default ``shop``
===================  ====================================================================================================
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery
from celery.exceptions import ImproperlyConfigured

from celery_tasker_events import DomainEvents
from celery_tasker_events.testing.folder_broker import folder_broker_settings

HERE = Path(__file__).resolve().parent


def required(variable: str) -> str:
    """The value of an environment variable that has no sensible default."""
    value = os.environ.get(variable)
    if not value:
        raise ImproperlyConfigured(
            f"the environment variable {variable} is not set: example_project/app.py tells which there are"
        )
    return value


def broker_settings(url: str) -> dict[str, Any]:
    """Celery's settings for a broker URL; the one that needs no server takes its folder from the options, not the URL."""
    scheme, _, folder = url.partition("://")
    if scheme != "filesystem":
        return {"broker_url": url}
    return folder_broker_settings(Path(folder))


app = Celery("example_project", include=["example_project.tasks", "example_project.subscribers"])
app.conf.update(
    **broker_settings(required("SHOP_BROKER_URL")),
    result_backend=required("SHOP_RESULT_BACKEND"),
    result_expires=3600,
    task_default_queue=os.environ.get("SHOP_QUEUE", "shop"),
    broker_connection_retry_on_startup=True,
    worker_timer_precision=0.1,  # a retry is due in 0.2 seconds here, and must not wait for a clock that ticks once a second
    tasker_events_dsn=required("SHOP_DSN"),
    tasker_events_spool_dir=os.environ.get("SHOP_SPOOL_DIR"),
    # Absolute, so that it does not matter where the worker is started.
    tasker_events_templates=[str(HERE / "config/tasks/**/*.yaml")],
    tasker_events_publishers=["example_project.publishers.PaymentEventPublisher"],
)
events = DomainEvents(app)
