"""The shop with declarations that cannot work: ``celery -A broken worker`` must refuse to start, and say why."""

from app import app

from celery_tasker_events import publishes_events

__all__ = ["app"]


@app.task(name="shop.refund")
@publishes_events("payment.refunded", publisher="no_such_publisher")
def refund() -> None: ...


@app.task(name="shop.cancel")
@publishes_events("payment.cancelled", schema={"type": "no_such_type"})
def cancel() -> None: ...
