"""The pages that act, where the command allows it: replaying archived events, and publishing dead letters after all.

Each action is two pages: one that says what would be done, with a form, and one that says what was done. The form says
what its reader has seen; if that is not what there is any more, the first page is shown again.
"""

from __future__ import annotations

import threading
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from celery_tasker_events.console.access import Access
from celery_tasker_events.console.filtering import OUTCOMES, Wanted
from celery_tasker_events.console.looks import Looks, deadline
from celery_tasker_events.console.offer import Offer
from celery_tasker_events.console.pages import moment_of
from celery_tasker_events.console.rendering import Pages
from celery_tasker_events.console.rows import row_of
from celery_tasker_events.consumer import replaying
from celery_tasker_events.consumer.destinations import QueueDestination
from celery_tasker_events.consumer.looking import find_queues
from celery_tasker_events.consumer.retrying import Retrying
from celery_tasker_events.consumer.scanning import Filter
from celery_tasker_events.durable.dead_letters import DeadLetter, DeadLetters
from celery_tasker_events.durable.pool import connect

__all__ = ["ActingPages"]

#: Events that are replayed from a page at most: more take longer than a browser waits, and the command can be resumed.
MOST = 5000

#: Seconds that counting them may take.
PATIENCE = 30.0

#: Events that are shown before they are replayed, and letters that are retried at once.
SHOWN, LETTERS = 10, 100

#: Bytes of a form.
LONGEST_FORM = 65_536

# A form must say where it comes from, which under no-referrer it would not.
_WITH_FORM = {"referrer-policy": "same-origin"}


class ActingPages:
    """The handlers."""

    def __init__(self, offer: Offer, pages: Pages, looks: Looks, access: Access) -> None:
        self._offer = offer
        self._pages = pages
        self._looks = looks
        self._access = access
        self._one_at_a_time = threading.Lock()

    def routes(self) -> list[Route]:
        return [
            Route("/replay", self.replay),
            Route("/replay", self.do_replay, methods=["POST"]),
            Route("/dead-letters/retry", self.retry),
            Route("/dead-letters/retry", self.do_retry, methods=["POST"]),
        ]

    def replay(self, request: Request) -> Response:
        return self._plan(request.query_params)

    async def do_replay(self, request: Request) -> Response:
        form = await self._form(request)
        return form if isinstance(form, Response) else await run_in_threadpool(self._replay, form)

    def retry(self, request: Request) -> Response:
        return self._choice(request.query_params)

    async def do_retry(self, request: Request) -> Response:
        form = await self._form(request)
        return form if isinstance(form, Response) else await run_in_threadpool(self._retry, form)

    async def _form(self, request: Request) -> QueryParams | Response:
        """The fields of a form of this server's that was confirmed; else what to say."""
        if len(body := await _limited_body(request)) > LONGEST_FORM:
            return self._pages.problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Too large", "The form is too large.")
        form = QueryParams(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
        if not self._access.is_ours(form.get("csrf_token", "")):
            return self._pages.problem(
                HTTPStatus.FORBIDDEN, "Refused", "The form is not one of this console, or of before it was started anew."
            )
        if form.get("confirmed") != "yes":
            return self._pages.problem(HTTPStatus.BAD_REQUEST, "Not confirmed", "Nothing was done: tick the box to confirm.")
        return form

    def _plan(self, query: QueryParams, note: str = "") -> Response:
        wanted, wish, problems = _wish(query)
        with self._looks.connection() as looking:
            namespaces = sorted(queue.namespace for queue in find_queues(looking) if queue.namespace)
            is_asked = "preview" in query and not problems
            counts, first = None, []
            if is_asked:
                portions = replaying.find_portions(looking, find_queues(looking, _names(wanted)), wish)
                counts = replaying.count(looking, portions, wish, deadline(PATIENCE))
                first = replaying.first_events(looking, portions, wish, SHOWN)
        return self._pages.render(
            "replay.html",
            headers=_WITH_FORM,
            current="replay",
            given={name: query.get(name, "") for name in _FIELDS},
            problems=problems,
            namespaces=namespaces,
            outcomes=OUTCOMES,
            counts=None if counts is None else sorted(counts.items()),
            total=0 if counts is None else counts.total(),
            most=MOST,
            rows=[row_of(entry) for entry in first],
            note=note,
            csrf_token=self._access.csrf_token,
        )

    def _replay(self, form: QueryParams) -> Response:
        wanted, wish, problems = _wish(form)
        if problems:
            return self._plan(form)
        with self._one_at_a_time, connect(self._offer.dsn) as connection:
            portions = replaying.find_portions(connection, find_queues(connection, _names(wanted)), wish)
            counts = replaying.count(connection, portions, wish, deadline(PATIENCE))
            if str(counts.total()) != form.get("count") or counts.total() > MOST:
                note = "Meanwhile there are others than you have seen. Nothing was sent: look again."
                return self._plan(QueryParams([*form.multi_items(), ("preview", "1")]), note)
            kept = {queue for queue, _ in counts}
            destination = QueueDestination()
            begun = replaying.begin(connection, [part for part in portions if part.queue in kept], wish, destination)
            report = begun.run(destination)
        lines = [f"{number} of {name}" for name, number in sorted(report.replayed.items())]
        lines += [f"Left out: {reason}" for reason in report.reasons]
        return self._done(
            f"{report.replayed.total()} events replayed", lines, "replay", f"They are marked as replay {begun.replay_id}."
        )

    def _choice(self, query: QueryParams) -> Response:
        with self._looks.dead_letters() as letters:
            retrying = Retrying(letters, self._offer.remake, dry_run=True)
            would = [retrying.retry(letter) for letter in _letters_of(letters, query)]
        return self._pages.render(
            "retry.html",
            headers=_WITH_FORM,
            current="dead letters",
            would=would,
            left=retrying.left,
            csrf_token=self._access.csrf_token,
        )

    def _retry(self, form: QueryParams) -> Response:
        with self._one_at_a_time, connect(self._offer.dsn) as connection:
            letters = DeadLetters(connection)
            chosen = _letters_of(letters, form)
            retrying = Retrying(letters, self._offer.remake)
            lines = [str(retrying.retry(letter)) for letter in chosen]
        return self._done(retrying.summary(), lines, "dead letters")

    def _done(self, title: str, lines: list[str], current: str, remark: str = "") -> Response:
        return self._pages.render("done.html", current=current, title=title, lines=lines, remark=remark)


_FIELDS = ("namespace", "event", "outcome", "correlation_id", "event_id", "since", "until")


def _wish(query: QueryParams) -> tuple[Wanted, Filter, dict[str, str]]:
    """What a query wants replayed, and what is wrong with it."""
    wanted = Wanted.of(query)
    problems: dict[str, str] = dict(wanted.problems)
    moments: dict[str, Any] = {}
    for name in ("since", "until"):
        moments[name], problem = moment_of(query.get(name, ""))
        if problem is not None:
            problems[name] = problem
    if moments["since"] and moments["until"] and moments["since"] >= moments["until"]:
        problems["until"] = "the end must be after the beginning"
    event_id = query.get("event_id", "").replace("\0", "").strip() or None
    wish = Filter(wanted.event, wanted.outcome, wanted.correlation_id, event_id, **moments, originals=True)
    return wanted, wish, problems


def _names(wanted: Wanted) -> list[str]:
    return [] if wanted.namespace is None else [wanted.namespace]


def _letters_of(letters: DeadLetters, query: QueryParams) -> list[DeadLetter]:
    """The letters that a query names, as ``namespace:id``, as far as they are there."""
    found: list[DeadLetter] = []
    for name in list(dict.fromkeys(query.getlist("letter")))[:LETTERS]:
        namespace, _, message_id = name.partition(":")
        if message_id.isdecimal() and message_id.isascii() and len(message_id) < 19:
            found += letters.find(int(message_id), namespace)
    return found


async def _limited_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM:
            break
    return body
