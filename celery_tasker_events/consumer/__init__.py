"""The outside: programs that consume durable events. Needs no Celery app."""

from celery_tasker_events.consumer.consumer import Consumer
from celery_tasker_events.consumer.delivery import Delivery
from celery_tasker_events.consumer.failing import ExponentialBackoff, Rejected, RetryLater
from celery_tasker_events.consumer.idempotency import Answer, Claim, IdempotencyStore, MemoryStore
from celery_tasker_events.consumer.postgres_store import PostgresStore

__all__ = [
    "Answer",
    "Claim",
    "Consumer",
    "Delivery",
    "ExponentialBackoff",
    "IdempotencyStore",
    "MemoryStore",
    "PostgresStore",
    "Rejected",
    "RetryLater",
]
