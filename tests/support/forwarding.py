"""What tests of forwarding need: a queue of a real broker that is gone afterwards, and forwarders as processes."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from typing import Any

from kombu import Connection, Queue
from program import PROGRAM


class BrokerQueue:
    """A queue, and an exchange of the same name, that a plain kombu consumer reads; made by the forwarder."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = f"forwarded_{uuid.uuid4().hex}"
        self.arguments = ["--exchange", self.name, "--queue", self.name]
        self.properties: list[Any] = []
        self.bodies: list[dict[str, Any]] = []

    def receive(self) -> list[dict[str, Any]]:
        """Take what is there, and return all that was ever taken, as it came."""
        with Connection(self.url) as connection:
            channel = connection.channel()
            queue = Queue(self.name)(channel)
            while message := queue.get(no_ack=True):
                self.properties.append(message.properties | {"headers": message.headers, "type_of": message.content_type})
                body = message.body
                self.bodies.append(json.loads(body if isinstance(body, str) else bytes(body)))
        return self.bodies

    def delete(self) -> None:
        with Connection(self.url) as connection:
            channel = connection.channel()
            channel.queue_delete(self.name)
            channel.exchange_delete(self.name)


def start_forwarder(dsn: str, url: str, *arguments: str) -> subprocess.Popen[str]:
    """Start ``celery-tasker-events forward payments`` to that URL, which is not on its command line."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    environment |= {"TASKER_EVENTS_DSN": dsn, "TARGET": url, "PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE
    command = [*PROGRAM, "forward", "payments", "--to-env", "TARGET", *arguments]
    return subprocess.Popen(command, env=environment, text=True, stdout=pipe, stderr=pipe)


def finished(process: subprocess.Popen[str], timeout: float = 120) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=timeout)
    return process.returncode, output, errors


def firsts(bodies: list[dict[str, Any]]) -> dict[str, list[int]]:
    """The numbers of each workflow's events in the order in which each came for the first time."""
    found: dict[str, list[int]] = {}
    for body in bodies:
        numbers = found.setdefault(body["metadata"]["task_uuid"], [])
        if body["payload"] not in numbers:
            numbers.append(body["payload"])
    return found
