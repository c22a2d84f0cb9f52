"""Standard output: a line of JSON for each event, confirmed when the batch is written."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from celery_tasker_events.consumer.delivery import Delivery
from celery_tasker_events.consumer.targets.base import Outcome, Target, TargetGone

__all__ = ["StdoutTarget"]


class StdoutTarget(Target):
    """``stdout:`` Each event as it was published."""

    schemes = ("stdout",)

    def open(self) -> None:
        """It is open already."""

    def publish(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        try:
            # As one write, so that the lines of several threads are not mixed.
            sys.stdout.buffer.write(b"".join(delivery.body.encode() + b"\n" for delivery in batch))
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            # Python flushes it once more at its end, and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise TargetGone("nobody reads what is written") from None
        return [None] * len(batch)

    def close(self) -> None:
        """It stays open."""
