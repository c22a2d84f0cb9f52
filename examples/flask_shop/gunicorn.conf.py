"""gunicorn's settings, which it reads from the folder that it is started in."""

from celery_tasker_events import DomainEvents

workers = 2
preload_app = True


def worker_exit(server, worker):
    """Wait until all that this child accepted is committed."""
    from shop import celery

    DomainEvents.of(celery).close()


def on_exit(server):
    """The same, in the main process."""
    from shop import celery

    DomainEvents.of(celery).close()
