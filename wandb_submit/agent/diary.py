"""What an agent writes down: its events, each in its turn."""

from __future__ import annotations

import asyncio
import logging
import time

from wandb_submit.store.events import Event, EventWriter, RunFinished, RunStarted

_WITHIN_S = 0.02
_LOG = logging.getLogger("wandb_submit.agent")


class Diary:
    """Writes one agent's events; starts and ends of runs a moment later, for it belongs to an event loop."""

    def __init__(self, events: EventWriter) -> None:
        self._events = events
        self._unwritten: list[tuple[float, RunStarted | RunFinished, str]] = []

    def write(self, event: Event) -> None:
        """Writes down what happens now, after what happened before."""
        self.write_down()
        self._events.write(event)

    def note(self, event: RunStarted | RunFinished, message: str, at: float | None = None) -> None:
        """Has a run's start or end written down in a moment: between two runs each tenth of a millisecond counts."""
        if not self._unwritten:
            asyncio.get_running_loop().call_later(_WITHIN_S, self.write_down)
        self._unwritten.append((time.time() if at is None else at, event, message))

    def write_down(self) -> None:
        """Writes down what has been noted."""
        for happened_at, event, message in self._unwritten:
            self._events.write(event, at=happened_at)
            _LOG.info(message)
        self._unwritten.clear()
