"""The time and the ids that events have in a test: the clock stands still until the test moves it, and ids count."""

from __future__ import annotations

import datetime
import itertools

__all__ = ["Clock", "CountingIds"]


class Clock:
    """Tells when events are fired.

    Args:
        start: What it shows at first.
    """

    def __init__(self, start: datetime.datetime) -> None:
        self._now = _aware(start)

    @property
    def now(self) -> datetime.datetime:
        """The moment that it shows, UTC."""
        return self._now

    def set(self, moment: datetime.datetime | str) -> None:
        """Show this moment from now on.

        Args:
            moment: With a time zone; also as text in ISO 8601, such as ``"2025-12-01T10:00:00Z"``.

        Raises:
            ValueError: if it has no time zone, or is no moment.
        """
        # Python 3.10 reads no "Z".
        parsed = datetime.datetime.fromisoformat(moment.replace("Z", "+00:00")) if isinstance(moment, str) else moment
        self._now = _aware(parsed)

    def advance(self, by: datetime.timedelta | float) -> None:
        """Go on by so much.

        Args:
            by: A timedelta, or seconds.
        """
        self._now += by if isinstance(by, datetime.timedelta) else datetime.timedelta(seconds=by)


class CountingIds:
    """Makes event ids in the form of a UUIDv7: the clock's time, and a number that counts from 1."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)

    def __call__(self) -> str:
        milliseconds = f"{int(self._clock.now.timestamp() * 1000):012x}"
        return f"{milliseconds[:8]}-{milliseconds[8:]}-7000-8000-{next(self._numbers):012x}"


def _aware(moment: datetime.datetime) -> datetime.datetime:
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone: give it one, such as tzinfo=datetime.timezone.utc")
    return moment.astimezone(datetime.timezone.utc)
