"""The pages that only look: events as they come, one message, one workflow, the queues, the dead letters, the catalog."""

from __future__ import annotations

import datetime
import itertools
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from celery_tasker_events.bus.pattern import Pattern
from celery_tasker_events.console import looks
from celery_tasker_events.console.charts import charts_of
from celery_tasker_events.console.filtering import OUTCOMES, Wanted
from celery_tasker_events.console.history import History
from celery_tasker_events.console.looks import Looks, SearchTooLong
from celery_tasker_events.console.offer import Offer
from celery_tasker_events.console.rendering import Pages
from celery_tasker_events.console.rows import row_of, tone_of, workflow_url
from celery_tasker_events.console.streaming import Streams
from celery_tasker_events.console.timeline import timeline_of
from celery_tasker_events.contract.messages import messages_of
from celery_tasker_events.contract.payload_fields import payload_fields
from celery_tasker_events.durable.dead_letters import Wanted as WantedLetters

__all__ = ["LookingPages", "moment_of"]

#: Dead letters on one page.
LETTERS = 50

#: How far back a workflow may be looked for, beside everything.
SINCE = {"1 hour": "1h", "1 day": "1d", "7 days": "7d"}

_AGO = {"1h": datetime.timedelta(hours=1), "1d": datetime.timedelta(days=1), "7d": datetime.timedelta(days=7)}


class LookingPages:
    """The handlers. Those that are no coroutines run on threads."""

    def __init__(self, offer: Offer, pages: Pages, looks_: Looks, history: History, streams: Streams) -> None:
        self._offer = offer
        self._pages = pages
        self._looks = looks_
        self._history = history
        self._streams = streams

    def routes(self) -> list[Route]:
        return [
            Route("/", self.live),
            Route("/stream", self.stream),
            Route("/message", self.message),
            Route("/workflow", self.workflow),
            Route("/queues", self.queues),
            Route("/dead-letters", self.dead_letters),
            Route("/dead-letter", self.dead_letter),
            Route("/catalog", self.catalog),
        ]

    def live(self, request: Request) -> Response:
        wanted = Wanted.of(request.query_params)
        found = self._looks.last(wanted)
        return self._pages.render(
            "live.html",
            current="live",
            wanted=wanted,
            outcomes=OUTCOMES,
            namespaces=found.namespaces,
            rows=[row_of(entry) for entry in found.entries],
            depth=looks.DEPTH,
            shown=looks.SHOWN,
        )

    async def stream(self, request: Request) -> Response:
        if self._streams.is_full:
            return self._pages.problem(HTTPStatus.SERVICE_UNAVAILABLE, "Too many", "Too many pages are open.")
        events = self._streams.events(Wanted.of(request.query_params))
        return StreamingResponse(events, media_type="text/event-stream")

    def message(self, request: Request) -> Response:
        message_id = _whole(request.query_params.get("id", ""))
        found = self._looks.message(request.query_params.get("queue", ""), message_id)
        if not found:
            return self._pages.problem(
                HTTPStatus.NOT_FOUND,
                "No such message",
                "It is neither in the queue nor in its archive: a consumer has deleted it, or it never was there.",
            )
        [entry, *_] = sorted(found, key=lambda entry: entry.archived_at is None)
        outline = entry.outline
        return self._pages.render(
            "message.html",
            current="live",
            entry=entry,
            outline=outline,
            tone=tone_of(outline.outcome),
            workflow_url=workflow_url(entry),
        )

    def workflow(self, request: Request) -> Response:
        correlation_id = request.query_params.get("id", "").replace("\0", "").strip()
        given = request.query_params.get("since", "")
        since, problem = moment_of(given)
        entries, has_more = [], False
        if correlation_id and problem is None:
            try:
                found = self._looks.story(correlation_id, since)
                entries, has_more = found.entries, found.has_more
            except SearchTooLong as error:
                problem = f"{error}: look less far back, or add the index that the documentation shows"
        return self._pages.render(
            "workflow.html",
            current="workflow",
            correlation_id=correlation_id,
            since=since,
            given_since=given,
            choices=SINCE,
            problem=problem,
            timeline=timeline_of(entries) if entries else None,
            has_more=has_more,
        )

    def queues(self, request: Request) -> Response:
        samples = self._history.samples()
        chosen = request.query_params.get("namespace", "")
        all_charts = charts_of(samples)
        return self._pages.render(
            "queues.html",
            current="queues",
            queues=[charts for charts in all_charts if chosen in ("", charts.sample.state.queue.namespace)],
            namespaces=sorted(charts.sample.state.queue.namespace or "" for charts in all_charts),
            chosen=chosen,
            looked=samples[-1].at if samples else None,
            interval=self._offer.interval,
            trouble=self._history.watcher.trouble,
        )

    def dead_letters(self, request: Request) -> Response:
        query = request.query_params
        namespace, event = query.get("namespace", ""), query.get("event", "").strip()
        after, pattern, problem = _whole(query.get("after", "0")), None, None
        try:
            pattern = Pattern(event) if event else None
        except ValueError as error:
            problem = str(error)
        with self._looks.dead_letters() as letters:
            known = letters.namespaces()
            wanted = WantedLetters(namespace or None, pattern.regular_expression if pattern else None)
            outlines = [] if problem else letters.outlines(wanted, after, LETTERS + 1)
            found = list(itertools.islice(outlines, LETTERS + 1))
        return self._pages.render(
            "dead_letters.html",
            current="dead letters",
            letters=found[:LETTERS],
            has_more=len(found) > LETTERS,
            namespaces=known,
            namespace=namespace,
            event=event,
            problem=problem,
        )

    def dead_letter(self, request: Request) -> Response:
        message_id, namespace = _whole(request.query_params.get("id", "")), request.query_params.get("namespace", "")
        with self._looks.dead_letters() as letters:
            found = letters.find(message_id, namespace)
        if not found:
            return self._pages.problem(
                HTTPStatus.NOT_FOUND, "No such dead letter", "It is not there any more: it was published after all, or purged."
            )
        return self._pages.render("dead_letter.html", current="dead letters", letter=found[0])

    def catalog(self, request: Request) -> Response:
        entries = self._offer.entries
        messages = None if entries is None else messages_of(entries)
        return self._pages.render("catalog.html", current="catalog", messages=messages, payload_fields=payload_fields)


def moment_of(given: str) -> tuple[datetime.datetime | None, str | None]:
    """Return the moment of a query, how long ago or a time in UTC, and what is wrong with it; neither for an empty text."""
    utc = datetime.timezone.utc
    if given in _AGO:
        return datetime.datetime.now(utc) - _AGO[given], None
    if not given:
        return None, None
    try:
        # Python 3.10 reads no "Z".
        moment = datetime.datetime.fromisoformat(given.upper().replace("Z", "+00:00"))
        return (moment.replace(tzinfo=utc) if moment.tzinfo is None else moment.astimezone(utc)), None
    except (ValueError, OverflowError):
        return None, f"{given!r} is no time, such as 2026-01-31T10:00:00Z"


def _whole(text: str) -> int:
    """A message id of a query; one that can't be is none that is there."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 19 else 0
