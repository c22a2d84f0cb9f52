"""Placing an order: its row and its event are written together, or neither is."""

import json

from django.db import connection, transaction
from django.http import JsonResponse
from django.views.decorators.http import require_POST
from shop.celery import OrderPlaced, events, order_placed

from orders.models import Order
from orders.tasks import ship


class SoldOut(Exception):
    """There is no more of it."""


@require_POST
def place(request):
    item = json.loads(request.body)["item"]
    try:
        with transaction.atomic():
            order = Order.objects.create(item=item)
            events.publish(order_placed, OrderPlaced(order.id, item), connection=connection)
            if item == "unicorn":
                raise SoldOut
            transaction.on_commit(lambda: ship.delay(order.id))
    except SoldOut:
        return JsonResponse({"error": "sold out"}, status=409)
    return JsonResponse({"order": order.id}, status=201)
