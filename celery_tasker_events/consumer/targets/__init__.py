"""Targets of forwarding: where durable events are published to. One file and one class for each."""

from celery_tasker_events.consumer.targets.base import NotNow, Outcome, Target, TargetGone, TargetOptions, TargetUnavailable
from celery_tasker_events.consumer.targets.registry import schemes, target_for

__all__ = ["NotNow", "Outcome", "Target", "TargetGone", "TargetOptions", "TargetUnavailable", "schemes", "target_for"]
