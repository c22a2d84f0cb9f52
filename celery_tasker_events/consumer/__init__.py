"""The outside: what reads durable events, with no Celery app needed."""
