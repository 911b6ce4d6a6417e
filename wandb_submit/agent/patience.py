"""How an agent waits for its server, and for whatever else a stop cuts short."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from wandb_submit.agent.diary import Diary
from wandb_submit.agent.pace import Pace
from wandb_submit.agent.protocol import BusyError
from wandb_submit.errors import WandbSubmitError
from wandb_submit.store.events import ServerBack, ServerLost

LAST_ANSWER_S = 2.0
_LOG = logging.getLogger("wandb_submit.agent")
_T = TypeVar("_T")


class Patience:
    """Waits until something is done or the agent is asked to stop.

    Args:
        stopped: is done once the agent is asked to stop.
        pace: how long to wait between two attempts.
        diary: where it is written that the server does not answer, and that it answers again.
    """

    def __init__(self, stopped: asyncio.Future[Any], pace: Pace, diary: Diary) -> None:
        self._stopped = stopped
        self._pace = pace
        self._diary = diary

    async def answered(self, call: Callable[[], Coroutine[object, object, _T]]) -> _T | None:
        """Repeats a call until the server answers it; `None` if we are asked to stop before."""
        lost_at: float | None = None
        failures = 0
        while True:
            try:
                answer = await self.unless_stopped(call())
            except WandbSubmitError as error:
                if not error.transient:
                    raise
                if lost_at is None:
                    lost_at = time.monotonic()
                    self._diary.write(ServerLost(reason=str(error)))
                    _LOG.warning("%s; trying again", error)
                failures += 1
                asked_for_s = error.retry_after_s if isinstance(error, BusyError) else None
                await self.unless_stopped(asyncio.sleep(self._pace.until_retry_s(failures, asked_for_s)))
                if self._stopped.done():
                    return None
                continue
            if lost_at is not None:
                away_s = round(time.monotonic() - lost_at, 3)
                self._diary.write(ServerBack(seconds=away_s))
                _LOG.info("the server answers again after %.0f s", away_s)
            return answer

    async def unless_stopped(self, work: Coroutine[object, object, _T]) -> _T | None:
        """Awaits something that a stop cuts short; `None` if it did.

        A heartbeat under way may carry a run, so that its answer gets a moment to arrive.
        """
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task, self._stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                await asyncio.wait({task}, timeout=LAST_ANSWER_S)
            if task.done():
                return task.result()
        finally:
            task.cancel()
        await asyncio.wait({task})
        return None
