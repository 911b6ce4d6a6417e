"""One server per data folder: whoever holds the lock on `server.lock` is the one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wandb_submit.errors import ConfigError, RefusedError, UnavailableError
from wandb_submit.system.files import is_full, is_locked, keep_out_of_git, try_lock, unwritable

# Whoever holds its lock is the server.
FILE = "server.lock"
_START_FILE = "start.lock"
# How often a server shows itself alive on the file, and after how long without it nobody believes that it is.
_BEAT_S = 10.0
_SILENT_S = 60.0


def make_data_dir(data_dir: Path) -> None:
    """Makes the folder, or closes it, so that only its owner can read it.

    Raises:
        ConfigError: if it cannot be made or written to.
        RefusedError: if it is a folder of other things that others may enter.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if stat.S_IMODE(data_dir.stat().st_mode) != 0o700:
            # Not a home folder or /tmp, which nobody wants closed.
            if any(data_dir.iterdir()) and not (data_dir / FILE).exists():
                raise RefusedError(
                    f"{data_dir} holds other things and is open to others: give the server a folder of its own"
                )
            data_dir.chmod(0o700)
        keep_out_of_git(data_dir)
    except OSError as error:
        raise cannot_keep_data(data_dir, error) from error


@contextmanager
def hold(data_dir: Path, *, patience_s: float = 0.5) -> Iterator[None]:
    """Holds the folder's lock; the kernel gives it back when the process dies, however it dies.

    Args:
        data_dir: the server's folder.
        patience_s: how long to try; `is_held` takes the lock for a moment when nobody has it.

    Raises:
        RefusedError: if another server holds it.
        ConfigError: if the folder cannot be written to.
    """
    refusal = RefusedError(f"another offline sweep server already serves {data_dir}")
    with _locked(data_dir, FILE, patience_s, refusal):
        yield


@contextmanager
def alone(data_dir: Path, *, timeout_s: float) -> Iterator[None]:
    """Keeps two processes from starting the folder's server at once.

    Raises:
        UnavailableError: if another process has been starting it for longer than `timeout_s`.
        ConfigError: if the folder cannot be written to.
    """
    busy = UnavailableError(f"another process has been starting the server of {data_dir} for {timeout_s:.0f} s")
    with _locked(data_dir, _START_FILE, timeout_s, busy):
        yield


def is_held(data_dir: Path) -> bool:
    """Whether a server of the folder is alive."""
    return is_locked(data_dir / FILE)


async def beat(data_dir: Path) -> None:
    """Shows on the lock's file that the server lives, to machines that its file system does not show the lock to."""
    while True:
        with contextlib.suppress(OSError):  # a full disk, or a folder that is gone, others tell
            os.utime(data_dir / FILE)
        await asyncio.sleep(_BEAT_S)


def seems_alive(data_dir: Path) -> bool:
    """Whether a server has shown itself alive on the lock's file just now, by the file system's own clock.

    To be asked under `alone`, whose file tells the file system's time.
    """
    try:
        os.utime(data_dir / _START_FILE)
        now = (data_dir / _START_FILE).stat().st_mtime
        return now - (data_dir / FILE).stat().st_mtime < _SILENT_S
    except OSError:
        return False


@contextmanager
def _locked(data_dir: Path, name: str, patience_s: float, otherwise: Exception) -> Iterator[None]:
    try:
        descriptor = os.open(data_dir / name, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise cannot_keep_data(data_dir, error) from error
    try:
        if not try_lock(descriptor, patience_s=patience_s):
            raise otherwise
        yield
    finally:
        os.close(descriptor)


def cannot_keep_data(data_dir: Path, error: Exception) -> ConfigError:
    """What is said of a data folder that the server cannot write to."""
    room = "full" in str(error) or (isinstance(error, OSError) and is_full(error))
    what = "make room there, or name another folder" if room else "name another folder"
    remedy = f"the offline sweep server keeps its data there: {what} in WANDB_SUBMIT_DIR, or with --data"
    return unwritable(data_dir, error, remedy)
