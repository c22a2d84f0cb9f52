"""History: the samples of the last while, in memory, which the charts are drawn from."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from celery_tasker_events.console.watching import Watcher
from celery_tasker_events.consumer.sampling import Sample, Sampler
from celery_tasker_events.durable.queues import Connection

__all__ = ["History"]

#: How many samples are kept: an hour of them, if there is one in five seconds.
KEPT = 720


class History:
    """Args: ``interval``: seconds between two samples."""

    def __init__(self, dsn: str, interval: float) -> None:
        self._sampler = Sampler()
        self._samples: deque[Sample] = deque(maxlen=KEPT)
        self.watcher = Watcher("history", dsn, self._look, interval)

    def samples(self) -> Sequence[Sample]:
        """What is kept, the oldest first."""
        return tuple(self._samples)

    def _look(self, connection: Connection) -> None:
        self._samples.append(self._sampler.sample(connection))
