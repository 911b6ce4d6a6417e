"""Who holds which device of this machine: one kernel lock per GPU and per core.

The locks are `flock`s on files in a folder that all users share. A lock belongs to an open file description, which a
task inherits from its scheduler. The task keeps it until it dies, however it dies, and the scheduler until it has
killed what the task has left behind: nothing has to be cleaned up, and two submissions, whoever started them, never
hold one device at a time. Who has a MIG instance also shares the lock of its GPU, which nobody can have as a whole
meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from wandb_submit.devices import Gpu
from wandb_submit.errors import RefusedError
from wandb_submit.system import files


def lock_folder() -> Path:
    """The folder of the lock files: `WANDB_SUBMIT_LOCK_DIR`, or one for all users of this machine.

    In memory where that is possible: what cleans /tmp by age would take a lock's file away under its holder.

    Raises:
        RefusedError: if it cannot be made.
    """
    shared = next(path for path in (Path("/dev/shm"), Path("/tmp")) if path.is_dir())  # noqa: S108 on purpose
    folder = Path(os.environ.get("WANDB_SUBMIT_LOCK_DIR") or shared / "wandb-submit-locks")
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o1777)
    except OSError as error:
        raise RefusedError(f"cannot make {folder}, which holds the locks of the devices: {error.strerror}") from error
    return folder


@dataclass(frozen=True, slots=True)
class Lock:
    """One lock of a device.

    Attributes:
        name: what identifies the device on this machine.
        shared: whether others may hold it in the same way.
    """

    name: str
    shared: bool = False

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{re.sub(r'[^A-Za-z0-9._-]', '_', self.name)}.lock"

    def excludes(self, other: Lock) -> bool:
        """Whether nobody can hold the other one while this one is held."""
        return self.name == other.name and not (self.shared and other.shared)


def gpu_locks(gpu: Gpu) -> tuple[Lock, ...]:
    """A GPU's locks: a MIG instance shares that of its GPU."""
    own = Lock(gpu.lock_name)
    return (own,) if gpu.parent_lock_name is None else (Lock(gpu.parent_lock_name, shared=True), own)


def core_lock(core: int) -> Lock:
    """A core's lock."""
    return Lock(f"core-{core}")


class KeptOpen:
    """Files of the locks' folder, each opened once while others hold its lock.

    Whoever waits for a lock is told when its file is closed (see `closings`). If a look closed what it has opened, it
    would wake those who wait, itself included, they would look, and so on for ever.
    """

    def __init__(self, open_file: Callable[[Path], int]) -> None:
        self._open_file = open_file
        self._descriptors: dict[str, int] = {}

    @property
    def names(self) -> frozenset[str]:
        """The files that are open."""
        return frozenset(self._descriptors)

    def open(self, path: Path) -> int:
        """A descriptor of a file, which is still that of this name.

        Raises:
            OSError: if it cannot be opened.
        """
        if path.name in self._descriptors and os.fstat(self._descriptors[path.name]).st_nlink == 0:
            self.close(path.name)
        if path.name not in self._descriptors:
            self._descriptors[path.name] = self._open_file(path)
        return self._descriptors[path.name]

    def take(self, path: Path) -> int:
        """A descriptor of an open file, which is the caller's from now on."""
        return self._descriptors.pop(path.name)

    def close(self, *names: str) -> None:
        """Closes some files."""
        for name in names:
            os.close(self._descriptors.pop(name))


class DeviceLocks:
    """Gathers the locks of one task's devices after another's.

    Attributes:
        descriptors: what holds a task's, for as long as these, or copies in another process, are open.
    """

    def __init__(self) -> None:
        self.descriptors: list[int] = []
        self._refused = KeptOpen(_open)

    @property
    def refused(self) -> frozenset[str]:
        """The files of the locks that others held, when last tried."""
        return self._refused.names

    def add(self, locks: Collection[Lock]) -> bool:
        """Takes several locks, or none of them; tells whether that was possible.

        Raises:
            RefusedError: if a lock file cannot be opened.
        """
        before = len(self.descriptors)
        for lock in locks:
            path = lock_folder() / lock.file
            with _named(path):
                descriptor = self._refused.open(path)
            if not files.try_lock(descriptor, shared=lock.shared):
                self.free(keep=before)
                return False
            self.descriptors.append(self._refused.take(path))
        return True

    def free(self, keep: int = 0) -> None:
        """Frees all but the first so many."""
        while len(self.descriptors) > keep:
            os.close(self.descriptors.pop())

    def hand_over(self) -> tuple[int, ...]:
        """What holds the task's locks; they are the caller's now, and the next ones another task's."""
        handed, self.descriptors = tuple(self.descriptors), []
        return handed

    def stop_waiting(self) -> None:
        """Closes the files of the locks that others hold."""
        self._refused.close(*self.refused)


def is_held(gpu: Gpu) -> bool:
    """Whether a task has this GPU, or an instance or the whole of it.

    Raises:
        RefusedError: if a lock file cannot be opened.
    """
    locks = DeviceLocks()
    was_free = locks.add(gpu_locks(gpu))
    locks.free()
    locks.stop_waiting()
    return not was_free


class ImaginedLocks(DeviceLocks):
    """Locks nothing: for a plan."""

    def add(self, locks: Collection[Lock]) -> bool:
        """Says that it has."""
        return True


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RefusedError(f"cannot open {path}, the lock of a device: {error.strerror}") from error


def _open(path: Path) -> int:
    # Another user's file in a sticky folder must be opened without O_CREAT (fs.protected_regular in proc(5)).
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, os.O_RDONLY)
    umask = os.umask(0)
    try:
        return os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    finally:
        os.umask(umask)
