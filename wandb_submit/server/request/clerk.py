"""The process that reads large bodies: Python reads JSON without ever letting another of its threads run.

It is started with the first of them and leaves after the last, and with it goes the memory that they took.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import ParamSpec, TypeVar

from wandb_submit.server.storage.refusals import Refusal
from wandb_submit.system.kinship import die_with_parent

_P = ParamSpec("_P")
_T = TypeVar("_T")
_IDLE_S = 20.0
# Numbers take many times as much as objects as they do as text.
_MAX_MEMORY = 4 * 1024**3


class Clerk:
    """Does work in a process of its own, one piece after the other. Not thread-safe: it is one event loop's."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self._working = 0

    async def do(self, work: Callable[_P, _T], *args: _P.args, **_: _P.kwargs) -> _T:
        """Does some work, and returns or raises what it does.

        Raises:
            Refusal: 413 if it takes too much memory, 503 if the process ends over it, twice.
        """
        if self._leaving is not None:
            self._leaving.cancel()
        self._working += 1
        try:
            try:
                return await self._done(work, *args)
            except BrokenProcessPool:
                # Somebody may have killed it; if it was this work, it ends the next one as well.
                return await self._done(work, *args)
        except MemoryError as error:
            raise Refusal("reading the request would take too much memory", status=413) from error
        except BrokenProcessPool as error:
            raise Refusal("the process that reads large requests has ended over this one", status=503) from error
        finally:
            self._working -= 1
            if not self._working:
                self._leaving = asyncio.get_running_loop().call_later(_IDLE_S, self._leave)

    def close(self) -> None:
        """Lets the process go; another would be started when it is needed."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def _leave(self) -> None:
        self.close()
        gc.collect()
        # Else glibc keeps for itself what the requests took here; another C library may have no such function.
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)

    async def _done(self, work: Callable[..., _T], *args: object) -> _T:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(os.getpid(),)
            )
        pool = self._pool
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work, *args)
        except BrokenProcessPool:
            # Other work that was in it may have begun the next one already.
            if self._pool is pool:
                self.close()
            raise


def _begin(parent: int) -> None:
    die_with_parent(parent, signal.SIGKILL)
    # Ctrl-C in the server's terminal reaches both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_DATA, (_MAX_MEMORY, _MAX_MEMORY))
