"""The application as a whole: what its parts do not show alone."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from celery_tasker_events.console.access import HEADERS, Access
from celery_tasker_events.console.application import Application
from celery_tasker_events.console.offer import Offer

ACCESS = Access(None, hosts=(), any_address=False, port=1)


def answer(application: Application, path: str) -> dict[str, str]:
    """The headers of what is answered, and ``:status``."""
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "scheme": "http",
        "http_version": "1.1",
        "client": None,
        "server": None,
    }
    found: dict[str, str] = {}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            found.update({name.decode(): value.decode() for name, value in message["headers"]})
            found[":status"] = str(message["status"])

    async def ask() -> None:
        try:
            await application.asgi(scope, receive, send)
        except AttributeError:
            pass  # for the server's log

    asyncio.run(ask())
    return found


def test_a_mistake_of_ours_is_answered_as_strictly_as_all_else() -> None:
    no_entry = cast("Any", object())
    offer = Offer(dsn="", database="", interval=1.0, allow_actions=False, entries=[no_entry])

    found = answer(Application(offer, ACCESS), "/catalog")

    assert found[":status"] == "500"
    assert found.items() >= HEADERS.items()
