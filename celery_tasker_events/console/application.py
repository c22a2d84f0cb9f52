"""The console as an ASGI application: its parts, put together."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus

import psycopg
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from celery_tasker_events.console.access import Access, Guard
from celery_tasker_events.console.actions import ActingPages
from celery_tasker_events.console.feed import Feed
from celery_tasker_events.console.history import History
from celery_tasker_events.console.looks import Looks
from celery_tasker_events.console.offer import Offer
from celery_tasker_events.console.pages import LookingPages
from celery_tasker_events.console.rendering import STATIC, Pages
from celery_tasker_events.console.streaming import Streams
from celery_tasker_events.errors import DatabaseNotReady, TaskerEventsError, UnknownQueue

__all__ = ["Application"]


class Application:
    """Attributes: ``asgi``: what a server serves."""

    def __init__(self, offer: Offer, access: Access) -> None:
        self._pages = Pages(
            database=offer.database, allow_actions=offer.allow_actions, has_catalog=offer.entries is not None, current=""
        )
        self._feed, self._history = Feed(offer.dsn), History(offer.dsn, offer.interval)
        self._streams = Streams(self._feed)
        looks = Looks(offer.dsn)
        routes = LookingPages(offer, self._pages, looks, self._history, self._streams).routes()
        if offer.allow_actions:
            routes += ActingPages(offer, self._pages, looks, access).routes()
        application = Starlette(
            routes=[*routes, Mount("/static", StaticFiles(directory=STATIC))],
            exception_handlers={
                HTTPException: self._tell_http,
                psycopg.Error: self._tell_trouble,
                TaskerEventsError: self._tell_trouble,
            },
            lifespan=self._lifespan,
        )
        # Around all of it, and not as a middleware inside: what Starlette answers to a mistake of ours has the headers, too.
        self.asgi = Guard(application, access, self._pages)

    def close_streams(self) -> None:
        """Let the open pages go, so that the server can end."""
        self._streams.close()

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        watchers = (self._feed.watcher, self._history.watcher)
        for watcher in watchers:
            watcher.start()
        try:
            yield
        finally:
            for watcher in watchers:
                await run_in_threadpool(watcher.stop)

    def _tell_http(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = HTTPStatus(error.status_code)
        reason = "There is no such page." if status == HTTPStatus.NOT_FOUND else status.description or status.phrase
        return self._pages.problem(status, status.phrase, reason)

    def _tell_trouble(self, request: Request, error: Exception) -> Response:
        status, title = HTTPStatus.CONFLICT, "That did not work"
        if isinstance(error, psycopg.Error | DatabaseNotReady):
            status, title = HTTPStatus.SERVICE_UNAVAILABLE, "The database can't be used"
        elif isinstance(error, UnknownQueue):
            status, title = HTTPStatus.NOT_FOUND, "No such queue"
        return self._pages.problem(status, title, str(error).strip())
