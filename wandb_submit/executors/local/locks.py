"""Who holds which device of this machine: one kernel lock per GPU and per core.

The locks are `flock`s on files in a folder that all users share. A lock belongs to an open file description,
which the task inherits from its scheduler and keeps until it dies, however it dies: nothing has to be cleaned
up, and two submissions, whoever started them, never hold one device at a time. Who has a MIG instance also shares
the lock of its GPU, which nobody can have as a whole meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from wandb_submit import files
from wandb_submit.devices import Gpu
from wandb_submit.errors import RefusedError


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


def core_lock_name(core: int) -> str:
    """What identifies a core on this machine."""
    return f"core-{core}"


class DeviceLocks:
    """The locks of one task's devices, while they are gathered.

    Attributes:
        descriptors: what holds them, for as long as these, or copies in another process, are open.
    """

    def __init__(self) -> None:
        self.descriptors: list[int] = []

    def add_gpu(self, gpu: Gpu) -> bool:
        """Takes a GPU's locks; tells whether that was possible.

        Raises:
            RefusedError: if a lock file cannot be opened.
        """
        parent = gpu.parent_lock_name
        return self._add(*([] if parent is None else [(parent, True)]), (gpu.lock_name, False))

    def add_core(self, core: int) -> bool:
        """The same for a core."""
        return self._add((core_lock_name(core), False))

    def free(self, keep: int = 0) -> None:
        """Frees all but the first so many."""
        while len(self.descriptors) > keep:
            os.close(self.descriptors.pop())

    def _add(self, *locks: tuple[str, bool]) -> bool:
        """Takes several locks, each to be shared or not, or none of them."""
        before = len(self.descriptors)
        for name, shared in locks:
            if (descriptor := try_lock(name, shared=shared)) is None:
                self.free(keep=before)
                return False
            self.descriptors.append(descriptor)
        return True


def is_held(gpu: Gpu) -> bool:
    """Whether a task has this GPU, or an instance or the whole of it.

    Raises:
        RefusedError: if a lock file cannot be opened.
    """
    locks = DeviceLocks()
    was_free = locks.add_gpu(gpu)
    locks.free()
    return not was_free


class ImaginedLocks(DeviceLocks):
    """Locks nothing: for a plan."""

    def _add(self, *locks: tuple[str, bool]) -> bool:
        return True


def try_lock(name: str, *, shared: bool = False) -> int | None:
    """Takes the lock of that name.

    Args:
        name: the device's.
        shared: whether others may hold it in the same way.

    Returns:
        A descriptor that holds it for as long as it, or a copy of it in another process, is open; `None` if
        another process has it.

    Raises:
        RefusedError: if the lock file cannot be opened.
    """
    path = lock_folder() / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.lock"
    try:
        descriptor = _open(path)
    except OSError as error:
        raise RefusedError(f"cannot open {path}, the lock of a device: {error.strerror}") from error
    if not files.try_lock(descriptor, shared=shared):
        os.close(descriptor)
        return None
    return descriptor


def _open(path: Path) -> int:
    # Another user's file in a sticky folder must be opened without O_CREAT (fs.protected_regular in proc(5)).
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, os.O_RDONLY)
    umask = os.umask(0)
    try:
        return os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    finally:
        os.umask(umask)
