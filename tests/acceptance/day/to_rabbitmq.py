"""Hands each line to a RabbitMQ queue and answers when the broker has confirmed it: arguments are the URL and the queue."""

from __future__ import annotations

import sys

from kombu import Connection, Queue
from kombu.exceptions import OperationalError

queue = Queue(sys.argv[2], durable=True)
with Connection(sys.argv[1], connect_timeout=5, transport_options={"confirm_publish": True, "max_retries": 0}) as connection:
    for line in sys.stdin:
        try:
            producer = connection.Producer(connection.default_channel)
            producer.publish(line.encode(), routing_key=queue.name, declare=[queue], delivery_mode=2, timeout=5)
            print("ok", flush=True)
        except (OperationalError, *connection.connection_errors, *connection.channel_errors):
            connection.close()
            print("retry 1", flush=True)
