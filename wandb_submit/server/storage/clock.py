"""The server's two clocks: the time of day, and one that nobody sets."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Tells the time of day, for people, and a steady time, for measuring how long something has been silent.

    The steady time is that of the day when the server starts, and from there on counts seconds: it does not follow
    when somebody (or NTP) sets the computer's clock, and stands still while the computer sleeps.
    """

    def __init__(self, day: Callable[[], float] = time.time, count: Callable[[], float] = time.monotonic) -> None:
        self._day = day
        self._count = count
        self._began = count()
        self._offset = day() - self._began

    def now(self) -> float:
        """The time of day: seconds since 1970."""
        return self._day()

    def uptime_s(self) -> float:
        """How long the server has been up."""
        return self._count() - self._began

    def steady(self) -> float:
        """The steady time, in seconds."""
        return self._offset + self._count()
