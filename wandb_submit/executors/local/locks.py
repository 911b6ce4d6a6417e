"""Who holds which device of this machine: one kernel lock per GPU and per core.

The locks are `flock`s on files in a folder that all users share. A lock belongs to an open file description,
which the task inherits from its scheduler and keeps until it dies, however it dies: nothing has to be cleaned
up, and two submissions, whoever started them, never hold one device at a time.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from wandb_submit import files
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


def try_lock(name: str) -> int | None:
    """Takes the lock of that name.

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
    if not files.try_lock(descriptor):
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
