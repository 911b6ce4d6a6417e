"""The line of submissions that wait for the same devices of this machine: who came first is served first.

Without it a task that needs many devices would never find them free together, as others take each that is freed.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from wandb_submit.executors.local.locks import KeptOpen, Lock, lock_folder
from wandb_submit.system import files

_log = logging.getLogger(__name__)
_PREFIX = "waits-"
_SHARED, _WHOLE = "shared", "whole"  # how a lock is waited for


class Place:
    """One submission's place in line, kept from its beginning.

    While it waits there is a file in the locks' folder, which names the locks that it may get and is locked: as with
    the devices themselves the lock dies with its holder.
    """

    def __init__(self) -> None:
        # The clock is one for all processes of this machine, and nobody sets it.
        self._name = f"{_PREFIX}{time.monotonic_ns():020}-{os.getpid()}"
        self._descriptor: int | None = None
        self._earlier = KeptOpen(lambda path: os.open(path, os.O_RDONLY))

    def is_behind(self, locks: Collection[Lock]) -> str | None:
        """The file of one that came earlier and waits for any of these locks, or for one that excludes it."""
        for name, theirs in self._ahead() if locks else ():
            names = {lock.name for lock in theirs}
            if any(own.excludes(lock) for own in locks if own.name in names for lock in theirs):
                return name
        return None

    def wait(self, locks: Collection[Lock]) -> None:
        """Holds the place; where that cannot be written, others may come first."""
        if self._descriptor is not None:
            return
        path = lock_folder() / self._name
        draft = path.with_name(f".{self._name}")
        umask = os.umask(0)
        try:
            descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        except OSError as error:
            _log.warning("cannot wait in line, %s: %s", draft, error.strerror)
            return
        finally:
            os.umask(umask)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.write(descriptor, "".join(map(_written, dict.fromkeys(locks))).encode())
            draft.rename(path)  # seen once it is locked and whole
        except OSError as error:
            _log.warning("cannot wait in line, %s: %s", draft, error.strerror)
            draft.unlink(missing_ok=True)
            os.close(descriptor)
            return
        self._descriptor = descriptor

    def leave(self) -> None:
        """Gives the place up, until the next wait."""
        self._earlier.close(*self._earlier.names)
        if self._descriptor is None:
            return
        (lock_folder() / self._name).unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None

    def _ahead(self) -> Iterator[tuple[str, list[Lock]]]:
        """The files of those that came earlier and wait, and what for."""
        folder = lock_folder()
        names = {entry for entry in os.listdir(folder) if entry.startswith(_PREFIX)}  # noqa: PTH208
        self._earlier.close(*self._earlier.names - names)
        for name in sorted(name for name in names if name < self._name):
            if (locks := self._waited_for(folder / name)) is not None:
                yield name, locks

    def _waited_for(self, path: Path) -> list[Lock] | None:
        """What a place in line is held for; `None` if its holder is gone, and then it is removed."""
        try:
            descriptor = self._earlier.open(path)
        except OSError:  # it left just now
            return None
        if not files.try_lock(descriptor, shared=True):
            return [_read(line) for line in os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode().splitlines()]
        with contextlib.suppress(OSError):  # another user's
            path.unlink()
        self._earlier.close(path.name)
        return None


def _written(lock: Lock) -> str:
    return f"{_SHARED if lock.shared else _WHOLE} {lock.name}\n"


def _read(line: str) -> Lock:
    kind, _, name = line.partition(" ")
    return Lock(name, shared=kind == _SHARED)
