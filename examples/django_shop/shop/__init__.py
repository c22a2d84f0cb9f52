"""The project. Its Celery app is made with it, so that ``shared_task`` finds it in web processes, too."""

from shop.celery import app

__all__ = ["app"]
