"""Ctrl-C and SIGTERM: noted when they come, obeyed at the next convenient moment, so that no half-started thing is left."""

from __future__ import annotations

import signal
import time
from types import FrameType


class Interrupted(Exception):
    """The run was asked to stop."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(self.signal.name)

    @property
    def exit_code(self) -> int:
        """As a shell gives it."""
        return 128 + self.signal


class Interruption:
    """What has been asked of this process. A handler that raised, wherever the program happens to be, could leave a
    server running that nobody knows of yet.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._received: int | None = None

    def watch(self) -> None:
        """From now on, note these signals."""
        for number in self._SIGNALS:
            signal.signal(number, self._note)

    def ignore(self) -> None:
        """From now on, the run is stopping anyway: impatient repetitions must not reach it nor what it starts for that."""
        for number in self._SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def check(self) -> None:
        """Raise Interrupted if the run was asked to stop."""
        if self._received is not None:
            raise Interrupted(self._received)

    def pause(self, seconds: float = 0.05) -> None:
        """Wait a moment between two looks at something, unless the run was asked to stop."""
        self.check()
        time.sleep(seconds)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = self._received or number
