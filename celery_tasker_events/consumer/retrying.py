"""Publishes the event of one dead letter after the other, and keeps count. Knows no Celery: an app is asked by a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import psycopg

from celery_tasker_events.consumer.printable import printable
from celery_tasker_events.durable.dead_letters import DeadLetter, DeadLetters
from celery_tasker_events.durable.message import DurableMessage
from celery_tasker_events.errors import NotPublishable

__all__ = ["Remake", "Retried", "Retrying"]

#: Makes the message of an event again from the ``outcome_text`` of its letter; raises NotPublishable where it can't.
Remake = Callable[[object], DurableMessage]


class Retried(NamedTuple):
    """What became of one letter.

    Attributes:
        stays: Whether its event can't be published.
        what: What was done, or why it stays.
    """

    letter: DeadLetter
    stays: bool
    what: str

    def __str__(self) -> str:
        letter = self.letter
        name = f"{letter.namespace} {letter.message_id} {letter.event_name}".rstrip()
        return printable(f"{name}: {'stays: ' if self.stays else ''}{self.what}")

    def as_json(self) -> dict[str, Any]:
        letter = self.letter
        named = {"namespace": letter.namespace, "message_id": letter.message_id, "event_name": letter.event_name}
        return {**named, "stays": self.stays, "what": self.what}


class Retrying:
    """Retries letters.

    Args:
        remake: None where there is no app that could make an event again.
        dry_run: Only tell what would be done.

    Attributes:
        done: How many events were published, or would be.
        left: How many letters stay because their events can't be published.
    """

    def __init__(self, letters: DeadLetters, remake: Remake | None, *, dry_run: bool = False) -> None:
        self._letters = letters
        self._remake = remake
        self._dry_run = dry_run
        self.done = 0
        self.left = 0

    def retry(self, letter: DeadLetter) -> Retried:
        """Publish the event; return what became of it.

        Raises:
            psycopg.OperationalError: if the database can't be used any more.
        """
        try:
            return Retried(letter, False, self._would(letter) if self._dry_run else self._publish(letter))
        except NotPublishable as error:
            self.left += 1
            return Retried(letter, True, str(error))

    def summary(self) -> str:
        return f"{self.done} {'to publish' if self._dry_run else 'published'}, {self.left} left"

    def _would(self, letter: DeadLetter) -> str:
        self._check(letter)
        self.done += 1
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
        self.done += 1
        return f"published as message {sent} of {message.queue}"

    def _check(self, letter: DeadLetter) -> None:
        if letter.kept not in ("message", "outcome"):
            raise NotPublishable("it keeps no more than text: run the task again, or publish the event by hand")
        if letter.kept == "outcome" and self._remake is None:
            raise NotPublishable("only the app can make this event again: celery -A <your app> domain-events dlq retry")

    def _kept(self, letter: DeadLetter) -> DurableMessage:
        try:
            return letter.message()
        except ValueError as error:  # anybody may have put the letter there
            raise NotPublishable(str(error)) from error

    def _made_again(self, letter: DeadLetter) -> DurableMessage:
        assert self._remake is not None
        return self._remake(letter.content.get("outcome_text"))
