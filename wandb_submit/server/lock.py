"""One server per data folder: whoever holds the lock on `server.lock` is the one."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wandb_submit.errors import RefusedError, UnavailableError

_FILE = "server.lock"
_RETRY_S = 0.05


def make_data_dir(data_dir: Path) -> None:
    """Makes the folder, or closes it, so that only its owner can read it.

    Raises:
        RefusedError: if it cannot be made or written to, or is a folder of other things that others may enter.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if stat.S_IMODE(data_dir.stat().st_mode) == 0o700:
            return
        # Not a home folder or /tmp, which nobody wants closed.
        if any(data_dir.iterdir()) and not (data_dir / _FILE).exists():
            raise RefusedError(
                f"{data_dir} holds other things and is open to others: give the server a folder of its own"
            )
        data_dir.chmod(0o700)
    except OSError as error:
        raise _cannot_write(data_dir, error) from error


@contextmanager
def hold(data_dir: Path, *, patience_s: float = 0.5) -> Iterator[None]:
    """Holds the folder's lock; the kernel gives it back when the process dies, however it dies.

    Args:
        data_dir: the server's folder.
        patience_s: how long to try; `is_held` takes the lock for a moment when nobody has it.

    Raises:
        RefusedError: if another server holds it, or the folder cannot be written to.
    """
    descriptor = _open(data_dir, _FILE)
    try:
        _acquire(descriptor, patience_s, RefusedError(f"another offline sweep server already serves {data_dir}"))
        yield
    finally:
        os.close(descriptor)


@contextmanager
def alone(data_dir: Path, *, timeout_s: float) -> Iterator[None]:
    """Keeps two processes from starting the folder's server at once.

    Raises:
        UnavailableError: if another process has been starting it for longer than `timeout_s`.
        RefusedError: if the folder cannot be written to.
    """
    descriptor = _open(data_dir, "start.lock")
    try:
        _acquire(
            descriptor,
            timeout_s,
            UnavailableError(f"another process has been starting the server of {data_dir} for {timeout_s:.0f} s"),
        )
        yield
    finally:
        os.close(descriptor)


def is_held(data_dir: Path) -> bool:
    """Whether a server of the folder is alive."""
    try:
        descriptor = os.open(data_dir / _FILE, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _open(data_dir: Path, name: str) -> int:
    try:
        return os.open(data_dir / name, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _cannot_write(data_dir, error) from error


def _acquire(descriptor: int, patience_s: float, otherwise: Exception) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise otherwise from None
            time.sleep(_RETRY_S)
        except OSError as error:
            # Some network file systems are mounted without locks.
            raise RefusedError(
                f"cannot lock a file in the data folder ({error.strerror}): put it on another file system"
            ) from error
        else:
            return


def _cannot_write(data_dir: Path, error: OSError) -> RefusedError:
    return RefusedError(f"the offline sweep server cannot keep its data in {data_dir}: {error.strerror or error}")
