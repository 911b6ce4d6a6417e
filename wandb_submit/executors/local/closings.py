"""Tells when a lock may have become free, so that who waits for one need not look again and again.

A `flock` is freed when the last copy of its open file is closed, by whomever and however its holder died, and inotify
tells of that. The kernel says it by SIGIO, for which a scheduler waits as it does for its other signals.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import struct
import threading
import time
from collections.abc import Collection
from pathlib import Path

TOLD_BY = signal.SIGIO
_LIBC = ctypes.CDLL(None)
_CLOSE_WRITE, _CLOSE_NOWRITE, _DELETE, _OVERFLOW, _IGNORED = 0x8, 0x10, 0x200, 0x4000, 0x8000  # <sys/inotify.h>
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
_BUFFER = 65536
_F_SETOWN_EX, _F_OWNER_TID = 15, 0  # <fcntl.h>
# The kernel tells of a closing just before it frees the lock. Who looks in between looks again so much later, and then
# after twice the time, and so on.
_SOON_S = 0.02
# How often to look without having been told: a user may have only so many inotify instances, sandboxed kernels such as
# gVisor's do not tell all, and nothing tells of a submission's halt file.
_CLOCK_S = 30.0


class Closings:
    """What is closed or deleted in a folder, while somebody waits for it; for one thread, which then blocks SIGIO."""

    def __init__(self) -> None:
        self._inotify: int | None = None
        self._watch = -1
        self._told: float | None = None

    def begin(self, folder: Path) -> bool:
        """Watches a folder from now on, if possible; tells whether it did not before.

        Then whoever waits has to look once more: nobody has told what was closed until now.
        """
        if self._inotify is None:
            self._inotify = _new_inotify()
        if self._inotify is None:
            return False
        before = self._watch  # the same for the same folder, which may have been made anew
        self._watch = _LIBC.inotify_add_watch(
            self._inotify, os.fsencode(folder), _CLOSE_WRITE | _CLOSE_NOWRITE | _DELETE
        )
        return self._watch not in (-1, before)

    def end(self) -> None:
        """Watches no longer. SIGIO stays blocked: one may be on its way."""
        if self._inotify is not None:
            os.close(self._inotify)
        self._inotify, self._watch, self._told = None, -1, None

    def tell_of(self, names: Collection[str]) -> bool:
        """Whether any of these files of the folder has been closed or deleted since this was last asked."""
        told = False
        with contextlib.suppress(BlockingIOError):
            while self._inotify is not None:
                events = os.read(self._inotify, _BUFFER)
                while events:
                    _, mask, _, length = _EVENT.unpack_from(events)
                    name = os.fsdecode(events[_EVENT.size : _EVENT.size + length].rstrip(b"\0"))
                    events = events[_EVENT.size + length :]
                    # Or more than the kernel keeps, or the folder itself is gone.
                    told |= name in names or bool(mask & (_OVERFLOW | _IGNORED))
        if told:
            self._told = time.monotonic()
        return told

    def patience_s(self) -> float:
        """How long to wait to be told before one looks all the same."""
        if self._told is None:
            return _CLOCK_S
        return min(max(time.monotonic() - self._told, _SOON_S), _CLOCK_S)


def _new_inotify() -> int | None:
    """An inotify instance that sends SIGIO to this thread; `None` if there can be none."""
    descriptor: int = _LIBC.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor == -1:
        return None
    signal.pthread_sigmask(signal.SIG_BLOCK, [TOLD_BY])  # it would end us
    fcntl.fcntl(descriptor, _F_SETOWN_EX, struct.pack("ii", _F_OWNER_TID, threading.get_native_id()))
    fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    return descriptor
