"""Envelopes: DomainEvent to bytes on the wire, and back."""

from celery_tasker_events.envelope.base import Envelope
from celery_tasker_events.envelope.registry import NAMES, by_name, read, recognise

__all__ = ["NAMES", "Envelope", "by_name", "read", "recognise"]
