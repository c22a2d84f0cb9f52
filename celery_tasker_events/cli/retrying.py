"""``dlq retry``: publishes the event of one dead letter after the other, and keeps count."""

from __future__ import annotations

import click
import psycopg

from celery_tasker_events import envelope
from celery_tasker_events.cli.app import sound_plugin_of
from celery_tasker_events.cli.printable import printable
from celery_tasker_events.durable.dead_letters import DeadLetter, DeadLetters
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.plugin import DomainEvents
from celery_tasker_events.rerun import NotPublishable, Rerun

__all__ = ["Retrying"]


class Retrying:
    """Attributes: ``left`` is how many letters stay because their events can't be published."""

    def __init__(self, ctx: click.Context, letters: DeadLetters, *, dry_run: bool) -> None:
        self._ctx = ctx
        self._letters = letters
        self._dry_run = dry_run
        self._rerun: Rerun | None = None
        self._done = 0
        self.left = 0

    def retry(self, letter: DeadLetter) -> str:
        """Publish the event; return what became of it, as a line.

        Raises:
            psycopg.OperationalError: if the database can't be used any more.
        """
        name = f"{letter.namespace} {letter.message_id} {letter.event_name}".rstrip()
        try:
            return printable(f"{name}: {self._would(letter) if self._dry_run else self._publish(letter)}")
        except NotPublishable as error:
            self.left += 1
            return printable(f"{name}: stays: {error}")

    def summary(self) -> str:
        return f"{self._done} {'to publish' if self._dry_run else 'published'}, {self.left} left"

    def _would(self, letter: DeadLetter) -> str:
        self._check(letter)
        self._done += 1
        return "would be sent as it is" if letter.kept == "message" else "would be made again by the app, and sent"

    def _publish(self, letter: DeadLetter) -> str:
        self._check(letter)
        message = self._kept(letter) if letter.kept == "message" else self._made_again(letter)
        try:
            sent = self._letters.publish(letter, message)
        except psycopg.Error as error:
            if self._letters.broken:
                raise
            raise NotPublishable(f"Postgres: {type(error).__name__}: {error}") from error
        if sent is None:
            return "somebody else has taken care of it"
        self._done += 1
        return f"published as message {sent} of {message.queue}"

    def _check(self, letter: DeadLetter) -> None:
        if letter.kept not in ("message", "outcome"):
            raise NotPublishable("it keeps no more than text: run the task again, or publish the event by hand")
        if letter.kept == "outcome" and self._ctx.obj is None:
            raise NotPublishable("only the app can make this event again: celery -A <your app> domain-events dlq retry")

    def _kept(self, letter: DeadLetter) -> DurableMessage:
        try:
            return letter.message()
        except ValueError as error:  # anybody may have put the letter there
            raise NotPublishable(str(error)) from error

    def _made_again(self, letter: DeadLetter) -> DurableMessage:
        if self._rerun is None:
            self._rerun = _rerun_of(sound_plugin_of(self._ctx))
        return self._rerun.message_of(letter.content.get("outcome_text"))


def _rerun_of(plugin: DomainEvents) -> Rerun:
    settings = plugin.settings
    return Rerun(plugin.catalog.find, envelope.by_name(settings.envelope), settings.max_event_bytes)
