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

from wandb_submit.executors.local.locks import lock_folder

_log = logging.getLogger(__name__)
_PREFIX = "waits-"


class Place:
    """One submission's place in line, kept from its beginning.

    While it waits there is a file in the locks' folder, which names the devices and is locked: as with the devices
    themselves the lock dies with its holder. Devices are named as their locks are.
    """

    def __init__(self) -> None:
        # The clock is one for all processes of this machine, and nobody sets it.
        self._name = f"{_PREFIX}{time.monotonic_ns():020}-{os.getpid()}"
        self._descriptor: int | None = None

    def is_behind(self, devices: Collection[str]) -> bool:
        """Whether one that came earlier waits for any of these devices."""
        return bool(devices) and any(not names.isdisjoint(devices) for names in self._earlier())

    def wait(self, devices: Collection[str]) -> None:
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
            os.write(descriptor, "\n".join(devices).encode())
            draft.rename(path)  # seen once it is locked and whole
        except OSError as error:
            _log.warning("cannot wait in line, %s: %s", draft, error.strerror)
            draft.unlink(missing_ok=True)
            os.close(descriptor)
            return
        self._descriptor = descriptor

    def leave(self) -> None:
        """Gives the place up, until the next wait."""
        if self._descriptor is None:
            return
        (lock_folder() / self._name).unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None

    def _earlier(self) -> Iterator[set[str]]:
        """The devices of each that came earlier and waits."""
        folder = lock_folder()
        for name in sorted(entry for entry in os.listdir(folder) if entry.startswith(_PREFIX)):  # noqa: PTH208
            if name >= self._name:
                return
            if (devices := _waited_for(folder / name)) is not None:
                yield devices


def _waited_for(path: Path) -> set[str] | None:
    """What a place in line is held for; `None` if its holder is gone, and then it is removed."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # it left just now
        return None
    with os.fdopen(descriptor) as file:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return set(file.read().split())
        with contextlib.suppress(OSError):  # another user's
            path.unlink()
        return None
