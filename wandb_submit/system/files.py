"""Files: their paths as people type them, and those that several processes share, written whole and locked."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
import time
from pathlib import Path

from wandb_submit.errors import ConfigError, RefusedError

_RETRY_S = 0.05
_TRIED_BYTES = 64 * 1024


def write_private(path: Path, text: str) -> None:
    """Writes a file for its owner alone; a reader sees the old text or the new one, never a part.

    Raises:
        OSError: if it cannot be written; then the old text is still there.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def typed_path(text: str) -> Path:
    """A path as a person types it, with `~` for a home folder; `Path.expanduser` raises where there is none."""
    return Path(os.path.expanduser(text))  # noqa: PTH111


def keep_out_of_git(folder: Path) -> None:
    """Has git ignore a folder: it lies in somebody's checkout, and what is in it is theirs alone."""
    ignore = folder / ".gitignore"
    if not ignore.exists():
        write_private(ignore, "*\n")


def unwritable(folder: Path, reason: object, remedy: str) -> ConfigError:
    """What is said of a folder that cannot be written to, whatever was to be kept there.

    Args:
        folder: the folder.
        reason: why it cannot be.
        remedy: what to do.
    """
    why = getattr(reason, "strerror", None) or reason
    return ConfigError(f"cannot write to {folder}: {why}; {remedy}")


def try_to_write(folder: Path) -> OSError | None:
    """What stands in the way of writing to a folder now, if anything: no room, a quota, a permission.

    It writes a little to a file without a name, which is gone at once.
    """
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(_TRIED_BYTES))
            os.fsync(file.fileno())  # a quota on a network file system may be found only then
    except OSError as error:
        return error
    return None


def is_full(error: Exception) -> bool:
    """Whether a disk, or somebody's share of it, had no room."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def try_lock(descriptor: int, *, shared: bool = False, patience_s: float = 0.0) -> bool:
    """Takes the kernel's lock on an open file, which is held until the last copy of the descriptor is closed.

    Args:
        descriptor: the open file.
        shared: whether others may hold it in the same way.
        patience_s: how long to try; `is_locked` takes the lock for a moment when nobody has it.

    Raises:
        RefusedError: if the file system has no locks.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_RETRY_S)
        except OSError as error:
            raise _no_locks(error) from error
        else:
            return True


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock on a file; a lock dies with its process, so that a stale file is none.

    Raises:
        RefusedError: if the file system has no locks.
    """
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise _no_locks(error) from error
    finally:
        os.close(descriptor)
    return False


def _no_locks(error: OSError) -> RefusedError:
    words = f"cannot lock files here ({error.strerror}); some network file systems are mounted without locks"
    return RefusedError(f"{words}: name another folder in WANDB_SUBMIT_DIR")
