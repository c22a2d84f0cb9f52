"""Settling: what becomes of a message that was handled, and the one transaction that does it for a batch of them."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_tasker_events import values
from celery_tasker_events.consumer import sql
from celery_tasker_events.consumer.delivery import Message
from celery_tasker_events.consumer.idempotency import Claim, IdempotencyStore
from celery_tasker_events.durable.message import dead_letter_queue
from celery_tasker_events.durable.queues import Connection

__all__ = ["Action", "Settlement", "commit", "set_visibility"]


class Action(enum.Enum):
    """What becomes of a message."""

    DELETE = "delete"
    ARCHIVE = "archive"
    POSTPONE = "postpone"
    DEAD_LETTER = "dead_letter"


@dataclass(frozen=True)
class Settlement:
    """What becomes of one message.

    Attributes:
        outcome: Under which name it is counted.
        fields: Log fields, told when it is committed.
        delay: Whole seconds until a postponed message can be read again; 0: at once.
        letter: The dead letter, which holds the message.
        done: Claims whose handlers have seen the event.
        released: Claims whose handlers have not, and for which another message of the same event may be handled.
    """

    message: Message
    action: Action
    outcome: str
    fields: Mapping[str, Any]
    delay: int = 0
    letter: Mapping[str, Any] | None = None
    done: Sequence[Claim] = ()
    released: Sequence[Claim] = ()

    @property
    def is_final(self) -> bool:
        """Whether the event is done with, whoever else has its message: a failure is nobody's but the holder's."""
        return self.action in (Action.DELETE, Action.ARCHIVE)


def commit(connection: Connection, settlements: Sequence[Settlement], store: IdempotencyStore | None) -> None:
    """Settle messages in one transaction, with the marks of the idempotency store; may be repeated."""
    with connection.transaction():
        if store is not None:
            store.settle(
                connection,
                done=[claim for settlement in settlements for claim in settlement.done],
                released=[claim for settlement in settlements for claim in settlement.released],
            )
        for (queue, action, delay), group in _groups(settlements).items():
            ids = [settlement.message.message_id for settlement in group]
            found = _apply(connection, queue, action, delay, ids)
            if action is Action.DEAD_LETTER:
                for settlement in group:
                    # Who has not removed it, because it was gone already, sends no second letter about it.
                    if settlement.message.message_id in found:
                        _send_letter(connection, settlement)


def set_visibility(connection: Connection, queue: str, ids: Sequence[int], seconds: int) -> dict[int, int]:
    """Make messages invisible for that many seconds from now; return the read counts of those that there are, by id."""
    return dict(connection.execute(sql.SET_VT, [ids, queue, seconds]).fetchall())


def _groups(settlements: Iterable[Settlement]) -> dict[tuple[str, Action, int], list[Settlement]]:
    groups: dict[tuple[str, Action, int], list[Settlement]] = {}
    for settlement in settlements:
        groups.setdefault((settlement.message.queue, settlement.action, settlement.delay), []).append(settlement)
    return groups


def _apply(connection: Connection, queue: str, action: Action, delay: int, ids: list[int]) -> set[int]:
    """Return the ids of the messages that were there."""
    if action is Action.POSTPONE:
        return set(set_visibility(connection, queue, ids, delay))
    statement = sql.ARCHIVE if action is Action.ARCHIVE else sql.DELETE
    return {message_id for (message_id,) in connection.execute(statement, [queue, ids])}


def _send_letter(connection: Connection, settlement: Settlement) -> None:
    message = settlement.message
    letter = values.encode(settlement.letter).decode()
    connection.execute(sql.SEND_LETTER, [dead_letter_queue(message.queue), letter, message.headers or "{}"])
