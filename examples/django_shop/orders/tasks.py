"""What a worker does with an order."""

from celery import shared_task

from celery_tasker_events import publishes_events
from orders.models import Order


@shared_task
@publishes_events("order.shipped", description="An order has left the house")
def ship(order_id):
    Order.objects.filter(id=order_id).update(shipped=True)
    return {"order": order_id}
