"""Serves a console until it is told to end; open streams do not hold it up."""

from __future__ import annotations

import os
import socket
from types import FrameType

import uvicorn

from celery_tasker_events.console.application import Application
from celery_tasker_events.errors import TaskerEventsError

__all__ = ["CannotListen", "listen", "serve"]

#: Seconds that pages in the making have at the end.
PATIENCE = 5


class CannotListen(TaskerEventsError):
    """There is no listening on an address."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 is a free one.

    Raises:
        CannotListen: if the port is taken, or the host is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        # Python adds the address to the system's words, which stands there already. A name that is unknown has other words.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        hint = " Give another one with --port; --port 0 takes a free one." if port else ""
        raise CannotListen(f"no listening on {host} port {port}: {reason}.{hint}") from error


def serve(application: Application, listening: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM, then hand the signal on to whoever handles it."""
    config = uvicorn.Config(
        application.asgi,
        log_config=None,
        access_log=False,  # it would have the token
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=PATIENCE,
    )
    _Server(config, application).run(sockets=[listening])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, application: Application) -> None:
        super().__init__(config)
        self._application = application

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._application.close_streams()
        super().handle_exit(sig, frame)
